import { isMailError, MailError } from '@flowpost/core';
import type { OpenedAttachment } from '@flowpost/mime-attachments';
import type { GraphApi } from './graph-api.ts';
import { graphRefusal } from './graph-failure.ts';

/** Attachments below this go in one request, others in an upload session, which takes none smaller. */
const smallestUpload = 3_000_000;
/** Ranges must be below 4 MB, and multiples of 320 KiB are what the service likes best. */
const rangeBytes = 10 * 320 * 1024;
const requestMs = 120_000;

/**
 * Sends a message that is too large for one request: a draft, its attachments one by one, then the draft. Needs
 * Mail.ReadWrite besides Mail.Send.
 *
 * @see https://learn.microsoft.com/graph/outlook-large-attachments
 */
export class DraftDelivery {
  readonly #api: GraphApi;
  readonly #scrub = (text: string): string => text;
  #id = '';

  constructor(api: GraphApi) {
    this.#api = api;
  }

  /** Makes the draft and attaches everything. Whatever fails here, nothing has been sent. */
  async prepare(mime: Buffer, attachments: readonly OpenedAttachment[]): Promise<void> {
    const response = await this.#api.request({
      ...{ method: 'POST', path: '/messages', body: mime.toString('base64'), contentType: 'text/plain' },
      ...{ expect: 201, permission: 'Mail.ReadWrite', limitMs: requestMs },
    });
    this.#id = ((await response.json()) as { id: string }).id;
    for (const attachment of attachments) {
      if (attachment.sizeBytes < smallestUpload) await this.#attach(attachment);
      else await this.#upload(attachment);
    }
  }

  #describe({ filename, contentType, contentId }: OpenedAttachment) {
    return {
      name: filename,
      contentType: contentType.split(';')[0],
      ...(contentId !== undefined && { contentId, isInline: true }),
    };
  }

  async #attach(attachment: OpenedAttachment): Promise<void> {
    const content = Buffer.concat(await Array.fromAsync(attachment.read()));
    const body = JSON.stringify({
      '@odata.type': '#microsoft.graph.fileAttachment',
      ...this.#describe(attachment),
      contentBytes: content.toString('base64'),
    });
    await this.#api.request({
      ...{ method: 'POST', path: `/messages/${this.#id}/attachments`, body, contentType: 'application/json' },
      ...{ expect: 201, permission: 'Mail.ReadWrite', limitMs: requestMs },
    });
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
    const { uploadUrl } = (await response.json()) as { uploadUrl: string };
    let sent = 0;
    for await (const range of inRanges(attachment.read())) {
      const headers = { 'content-range': `bytes ${sent}-${sent + range.length - 1}/${sizeBytes}` };
      // The URL itself is the permission; a token does not belong there.
      const answer = await this.#api.send(
        uploadUrl,
        { method: 'PUT', headers, body: range },
        'envelope',
        requestMs,
      );
      if (answer.status > 201) throw await graphRefusal(answer, 'envelope', 'Mail.ReadWrite', this.#scrub);
      sent += range.length;
    }
    if (sent === sizeBytes) return;
    throw new MailError('ATTACHMENT_CHANGED', `${attachment.filename} changed while it was being read.`, {
      phase: 'attachments',
    });
  }

  /** Sends the draft. When the answer is lost, the draft itself tells whether it went out. */
  async send(limitMs: number): Promise<Response> {
    try {
      return await this.#api.request({
        ...{ method: 'POST', path: `/messages/${this.#id}/send`, expect: 202 },
        ...{ permission: 'Mail.Send', phase: 'confirm', limitMs },
      });
    } catch (error) {
      if (!isMailError(error) || !error.inDoubt) throw error;
      const isDraft = await this.#isStillDraft();
      if (isDraft === undefined) throw error;
      if (!isDraft) return new Response(null, { status: 202, statusText: 'found to be sent' });
      // It never left, so all of it may be tried again.
      throw new MailError('CONNECTION_LOST', 'The connection was lost, and the message is still a draft.', {
        phase: 'data',
        cause: error,
      });
    }
  }

  async #isStillDraft(): Promise<boolean | undefined> {
    try {
      const response = await this.#api.request({
        ...{ method: 'GET', path: `/messages/${this.#id}?$select=isDraft`, expect: 200 },
        ...{ permission: 'Mail.ReadWrite', limitMs: requestMs },
      });
      const { isDraft } = (await response.json()) as { isDraft?: boolean };
      return isDraft;
    } catch {
      return undefined;
    }
  }

  /** Takes away a draft that was not sent. That it could not be is no news beside why. */
  async discard(): Promise<void> {
    if (this.#id === '') return;
    const path = `/messages/${this.#id}`;
    const request = {
      method: 'DELETE',
      path,
      expect: 204,
      permission: 'Mail.ReadWrite',
      limitMs: requestMs,
    } as const;
    await this.#api.request(request).catch(() => undefined);
  }
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
