import { setTimeout as delay } from 'node:timers/promises';
import { isMailError, MailError } from '@flowpost/core';
import type { OpenedAttachment } from '@flowpost/mime-attachments';
import { formsOf, secretScrubber } from '../scrub.ts';
import type { GraphApi } from './graph-api.ts';
import { graphRefusal, leave, readAnswer } from './graph-failure.ts';

/** Attachments below this go in one request, others in an upload session, which takes none smaller. */
const smallestUpload = 3_000_000;
/** Ranges must be below 4 MB, and multiples of 320 KiB are what the service likes best. */
const rangeBytes = 10 * 320 * 1024;
const requestMs = 120_000;
const afterwardsMs = 15_000;
/** How often it is tried to take a draft away, and how long that is put off at most each time, in milliseconds. */
const removals = 3;
const longestThrottleMs = 20_000;

/**
 * Sends a message that is too large for one request: a draft, its attachments one by one, then the draft. Needs
 * Mail.ReadWrite besides Mail.Send.
 *
 * @see https://learn.microsoft.com/graph/outlook-large-attachments
 */
export class DraftDelivery {
  readonly #api: GraphApi;
  readonly #lookup: GraphApi;
  readonly #tidying: GraphApi;
  #id = '';
  #making: Promise<void> | undefined;
  #hasHtml = false;

  /**
   * @param api ends when the caller gives up.
   * @param afterwards what goes on then: looking up what became of the draft, a little longer, and making and taking away drafts.
   */
  constructor(api: GraphApi, afterwards: { readonly lookup: GraphApi; readonly tidying: GraphApi }) {
    this.#api = api;
    this.#lookup = afterwards.lookup;
    this.#tidying = afterwards.tidying;
  }

  /**
   * Makes the draft. Goes on when the caller gives up: without its answer nobody could take away what was made. Whatever fails here or
   * in `attach`, nothing has been sent.
   */
  make(mime: Buffer): Promise<void> {
    this.#making ??= this.#make(mime);
    return this.#making;
  }

  async #make(mime: Buffer): Promise<void> {
    const response = await this.#tidying.request({
      ...{ method: 'POST', path: '/messages', body: mime.toString('base64'), contentType: 'text/plain' },
      ...{ expect: 201, permission: 'Mail.ReadWrite', limitMs: requestMs },
    });
    this.#id = encodeURIComponent(await this.#tidying.member(response, 'id', 'string'));
  }

  /**
   * Attaches everything to the draft.
   *
   * @param hasHtml whether there is a text that shows attachments by their Content-ID.
   */
  async attach(attachments: readonly OpenedAttachment[], hasHtml: boolean): Promise<void> {
    this.#hasHtml = hasHtml;
    for (const attachment of attachments) {
      if (attachment.sizeBytes < smallestUpload) await this.#attach(attachment);
      else await this.#upload(attachment);
    }
  }

  #describe({ filename, contentType, contentId }: OpenedAttachment) {
    return {
      name: filename,
      contentType: contentType.split(';')[0],
      ...(contentId !== undefined && { contentId, isInline: this.#hasHtml }),
    };
  }

  async #attach(attachment: OpenedAttachment): Promise<void> {
    const content = Buffer.concat(await Array.fromAsync(attachment.read()));
    const body = JSON.stringify({
      '@odata.type': '#microsoft.graph.fileAttachment',
      ...this.#describe(attachment),
      contentBytes: content.toString('base64'),
    });
    const answer = await this.#api.request({
      ...{ method: 'POST', path: `/messages/${this.#id}/attachments`, body, contentType: 'application/json' },
      ...{ expect: 201, permission: 'Mail.ReadWrite', limitMs: requestMs },
    });
    await leave(answer);
  }

  async #upload(attachment: OpenedAttachment): Promise<void> {
    const { sizeBytes } = attachment;
    const item = { attachmentType: 'file', size: sizeBytes, ...this.#describe(attachment) };
    const response = await this.#api.request({
      method: 'POST',
      path: `/messages/${this.#id}/attachments/createUploadSession`,
      body: JSON.stringify({ AttachmentItem: item }),
      ...{ contentType: 'application/json', expect: 201, permission: 'Mail.ReadWrite', limitMs: requestMs },
    });
    const uploadUrl = await this.#api.member(response, 'uploadUrl', 'string');
    this.#api.assertUpload(uploadUrl);
    // The URL is a permission, so it is kept out of errors like a token.
    const scrub = urlScrubber(uploadUrl);
    let sent = 0;
    for await (const range of inRanges(attachment.read())) {
      const headers = {
        'content-type': 'application/octet-stream',
        'content-range': `bytes ${sent}-${sent + range.length - 1}/${sizeBytes}`,
      };
      // The URL itself is the permission; a token does not belong there.
      const answer = await this.#api.send(
        uploadUrl,
        { method: 'PUT', headers, body: range },
        'envelope',
        requestMs,
      );
      sent += range.length;
      // The last range makes the attachment, which is 201; each before it says what is to come.
      if (sent === sizeBytes && answer.status === 201) await leave(answer);
      else if (answer.status !== 200) throw await uploadRefusal(answer, scrub);
      else if (sent === sizeBytes || !(await expects(answer, sent)))
        throw new MailError('MESSAGE_DEFERRED', 'Microsoft Graph did not take all of an attachment.', {
          phase: 'envelope',
          replyCode: 450,
          details: { filename: attachment.filename },
        });
    }
    if (sent === sizeBytes) return;
    throw new MailError('ATTACHMENT_CHANGED', `${attachment.filename} changed while it was being read.`, {
      phase: 'attachments',
    });
  }

  /**
   * Sends the draft. When the answer is lost, the draft may tell that it went out. That it is one still says nothing: the
   * service may be about to send it, so the doubt remains, and so does the draft.
   */
  async send(limitMs: number): Promise<Response> {
    try {
      return await this.#api.request({
        ...{ method: 'POST', path: `/messages/${this.#id}/send`, expect: 202 },
        ...{ permission: 'Mail.Send', phase: 'confirm', limitMs },
      });
    } catch (error) {
      const wasSent = isMailError(error) && error.inDoubt && (await this.#isStillDraft()) === false;
      if (wasSent) return new Response(null, { status: 202, statusText: 'found to be sent' });
      throw error;
    }
  }

  async #isStillDraft(): Promise<boolean | undefined> {
    try {
      const response = await this.#lookup.request({
        ...{ method: 'GET', path: `/messages/${this.#id}?$select=isDraft`, expect: 200 },
        ...{ permission: 'Mail.ReadWrite', limitMs: afterwardsMs },
      });
      return await this.#lookup.member(response, 'isDraft', 'boolean');
    } catch {
      return undefined;
    }
  }

  /** Takes away a draft that was not sent. That it could not be is no news beside why. */
  async discard(): Promise<void> {
    await this.#making?.catch(() => undefined);
    if (this.#id === '') return;
    const remove = () =>
      this.#tidying.request({
        ...{ method: 'DELETE', path: `/messages/${this.#id}`, expect: 204 },
        ...{ permission: 'Mail.ReadWrite', limitMs: afterwardsMs },
      });
    for (let left = removals - 1; ; left--) {
      const failure = await remove().then(
        () => undefined,
        (error: unknown) => error,
      );
      // What keeps the message from being sent, mostly, and for a moment.
      if (!isMailError(failure) || !failure.retryable || left === 0) return;
      const { retryAfterMs = 1_000, status } = failure.details as {
        readonly retryAfterMs?: number;
        readonly status?: number;
      };
      // It is gone already.
      if (status === 404) return;
      // Nobody waits for that for long, and no process goes on for it.
      await delay(Math.min(retryAfterMs, longestThrottleMs), undefined, { ref: false });
    }
  }
}

/**
 * Whether an upload goes on where it should. Services write the name of the ranges with a small letter or a capital one.
 *
 * @see https://learn.microsoft.com/graph/outlook-large-attachments
 */
async function expects(answer: Response, from: number): Promise<boolean> {
  const said: Record<string, unknown> = await readAnswer(answer).catch(() => ({}));
  const ranges = said.nextExpectedRanges ?? said.NextExpectedRanges;
  const [next] = Array.isArray(ranges) ? ranges : [];
  return Number(/^(\d+)/.exec(String(next))?.[1]) === from;
}

/** An upload session ends, and its URL with it. That says nothing about the mailbox or the login, and a new one may go well. */
async function uploadRefusal(answer: Response, scrub: (text: string) => string): Promise<MailError> {
  const isOver = [401, 404, 410, 416].includes(answer.status);
  const refused = await graphRefusal(answer, 'envelope', 'Mail.ReadWrite', scrub);
  if (!isOver) return refused;
  return new MailError('MESSAGE_DEFERRED', `${refused.message} The upload of an attachment had ended.`, {
    phase: 'envelope',
    replyCode: 450,
    details: refused.details,
  });
}

/** Takes what an upload URL allows out of a text: the URL is the only login an upload has. */
function urlScrubber(url: string): (text: string) => string {
  const { pathname, search, searchParams } = new URL(url);
  const whole = [url, `${pathname}${search}`, search].filter((one) => one.length >= 4);
  const scrub = secretScrubber([...searchParams.values()].flatMap(formsOf));
  return (text) => scrub(whole.reduce((clean, one) => clean.replaceAll(one, '***'), text));
}

/** Chunks of any size as pieces of the size ranges have; the last may be smaller. */
async function* inRanges(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer<ArrayBuffer>> {
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    held.push(chunk);
    size += chunk.length;
    while (size >= rangeBytes) {
      const whole = Buffer.concat(held);
      yield whole.subarray(0, rangeBytes);
      held = [whole.subarray(rangeBytes)];
      size -= rangeBytes;
    }
  }
  if (size > 0) yield Buffer.concat(held);
}
