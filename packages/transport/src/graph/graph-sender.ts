import { setTimeout as delay } from 'node:timers/promises';
import type { AuthProvider } from '@flowpost/auth-providers';
import {
  type EmailMessageInput,
  guardLogger,
  isMailError,
  type Logger,
  MailError,
  type MailSender,
  type Microsoft365Connection,
  type OutgoingMessage,
  parseAddresses,
  parseMessage,
  revealSecret,
  type SendOptions,
  type SendReceipt,
  silentLogger,
  systemClock,
  untilAborted,
} from '@flowpost/core';
import { composeMessage, type OpenedAttachment, openAttachments } from '@flowpost/mime-attachments';
import { cancelledBefore, isGivenUp, somewhatAfter } from '../abortable.ts';
import { connectionTarget, graphCredential, graphUrlOf } from '../connection-target.ts';
import { InFlight } from '../in-flight.ts';
import { assertAllowedSize, withFrom, withinMessage } from '../message-composer.ts';
import { RateLimit } from '../rate-limit.ts';
import { failedSend, loginProvider, type SenderOptions, timingsUntil } from '../sending.ts';
import { Slots } from '../slots.ts';
import { DraftDelivery } from './draft-delivery.ts';
import { GraphApi, TokenScrubbers } from './graph-api.ts';
import { leave, requestIdOf } from './graph-failure.ts';

/**
 * Messages up to here go in one request. The documented limit of 4 MB is one of the request, which is base64; larger
 * MIME messages have been seen to be answered with 200 and never sent.
 */
const onePieceBytes = 2_200_000;
/** How long closing waits for drafts to be taken away, in milliseconds. */
const tidyingMs = 5_000;
/** For how long it is still looked up, for somebody who has given up, whether a draft was sent. */
const lookupGraceMs = 1_500;
/** Requests at once for one application and mailbox, by the service's throttling limits. */
const atOnce = 4;

/** For how long whoever sends waits for a draft to be taken away, in milliseconds. */
const longestWaitMs = 1_500;

/** Waits for work, but not for long. The process does not end meanwhile: somebody waits. */
async function atMostFor(work: Promise<unknown>, ms: number): Promise<void> {
  const done = new AbortController();
  const late = delay(ms, undefined, { signal: done.signal }).catch(() => undefined);
  await Promise.race([work, late]).finally(() => done.abort());
}

/** One that was read, as if it were not. */
const openedAgain = ({
  content,
  ...shown
}: Omit<OpenedAttachment, 'sizeBytes' | 'read'> & { readonly content: Buffer }): OpenedAttachment => ({
  ...shown,
  sizeBytes: content.length,
  async *read() {
    yield content;
  },
});

/** Sends over Microsoft Graph as a user of a tenant. */
export class GraphSender implements MailSender {
  readonly #connection: Microsoft365Connection;
  readonly #options: SenderOptions;
  readonly #provider: AuthProvider;
  readonly #logger: Logger;
  readonly #rate: RateLimit;
  readonly #slots: Slots;
  readonly #messageBytes: number | undefined;
  readonly #inFlight: InFlight;
  readonly #scrubbers = new TokenScrubbers();
  #closing: Promise<void> | undefined;
  readonly #atOnce: number;
  /** Drafts that are being taken away. */
  readonly #tidying = new Set<Promise<void>>();

  constructor(connection: Microsoft365Connection, options: SenderOptions = {}) {
    this.#connection = connection;
    this.#inFlight = new InFlight(options.closeDeadlineMs);
    this.#options = options;
    this.#logger = guardLogger(options.logger ?? silentLogger);
    this.#provider = loginProvider(graphCredential(connection), { ...options, logger: this.#logger });
    const { messagesPerMinute = Number.POSITIVE_INFINITY, messageBytes } =
      connectionTarget(connection).limits;
    this.#messageBytes = messageBytes;
    this.#atOnce = connection.limits?.connections ?? atOnce;
    this.#slots = new Slots(this.#atOnce);
    this.#rate = new RateLimit(messagesPerMinute, 60_000, options.clock ?? systemClock);
  }

  send(input: OutgoingMessage, options: SendOptions = {}): Promise<SendReceipt> {
    return this.#inFlight.run(options, (signal) => this.#send(input, options, signal));
  }

  async #send(input: OutgoingMessage, options: SendOptions, signal: AbortSignal): Promise<SendReceipt> {
    if (options.requireTls) {
      throw new MailError(
        'REQUIRETLS_NOT_OFFERED',
        'Microsoft Graph does not promise TLS for the whole way.',
      );
    }
    if (options.onlyTo) {
      const message = 'Microsoft Graph sends to everybody in the header of a message.';
      throw new MailError('INPUT_INVALID', message, { hint: 'Leave onlyTo out, or deliver over SMTP.' });
    }
    const start = performance.now();
    // Every mistake in one error, before any attachment is opened.
    const message = parseMessage(withFrom(input, this.#connection.from));
    const nodes = (message.attachments ?? []).filter((one) => one.kind === 'mime');
    const attachments = withinMessage(this.#options.attachments, this.#messageBytes);
    const mayWait = this.#inFlight.count > Math.min(this.#atOnce, this.#rate.left);
    using opened = await openAttachments(message.attachments ?? [], { attachments, signal, mayWait });
    const total = opened.attachments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const isHeld = total * 1.4 < onePieceBytes;
    const parts = isHeld ? opened.attachments : [];
    const inMemory = await Promise.all(
      parts.map(async ({ filename, contentType, contentId, read }) => ({
        kind: 'bytes' as const,
        content: Buffer.concat(await Array.fromAsync(read())),
        ...{ filename, contentType, ...(contentId !== undefined && { contentId }) },
      })),
    );
    const compose = (held: EmailMessageInput['attachments'] = []) =>
      composeMessage(
        { ...message, attachments: [...held, ...nodes] },
        { includeBcc: true, signal, ...(attachments && { attachments }) },
      );
    const whole = isHeld ? await compose(inMemory) : undefined;
    const isSmall = whole !== undefined && (whole.sizeBytes <= onePieceBytes || inMemory.length === 0);
    const composed = isSmall ? whole : await compose();
    const sizeBytes = isSmall ? composed.sizeBytes : composed.sizeBytes + Math.ceil(total * 1.37);
    assertAllowedSize(sizeBytes, this.#messageBytes);
    const moments = { start, composed: performance.now(), begun: 0 };
    try {
      const body = Buffer.isBuffer(composed.body)
        ? composed.body
        : Buffer.concat(await Array.fromAsync(composed.body));
      await this.#slots.take(signal);
      const apart = isHeld ? inMemory.map(openedAgain) : opened.attachments;
      const large = isSmall ? undefined : apart;
      const confirmed = await this.#deliver(message, body, large, { ...options, signal }, () => {
        moments.begun = performance.now();
      }).finally(() => this.#slots.free());
      const now = performance.now();
      this.#logger.info('message sent', { status: 'sent', messageId: composed.messageId, route: 'graph' });
      return {
        status: 'sent',
        messageId: composed.messageId,
        accepted: composed.envelope.to,
        rejected: [],
        ...confirmed,
        attempts: 1,
        ...(options.dsn && { notifications: 'not-offered' as const }),
        sizeBytes,
        timings: timingsUntil(now, moments),
      };
    } catch (error) {
      const failure = isGivenUp(error, signal) ? cancelledBefore(signal) : error;
      throw failedSend(failure, composed, this.#logger);
    }
  }

  async #deliver(
    message: OutgoingMessage,
    mime: Buffer,
    attachments: readonly OpenedAttachment[] | undefined,
    options: SendOptions,
    onBegin: () => void,
  ): Promise<Pick<SendReceipt, 'response' | 'serverMessageId'>> {
    const api = await this.#api(message, options.signal, options);
    // Turns of those who wait for others to end, or for a token, would all be used at once when they have.
    await this.#provider.login(options.signal);
    await this.#rate.turn(options.signal);
    onBegin();
    const response =
      !attachments && mime.length <= onePieceBytes
        ? await this.#sendAtOnce(api, mime, options)
        : await this.#sendDraft(
            new DraftDelivery(api, {
              lookup: await this.#api(message, somewhatAfter(options.signal, lookupGraceMs), options),
              tidying: await this.#api(message, undefined, options),
            }),
            mime,
            { attachments: attachments ?? [], hasHtml: message.html !== undefined },
            options,
          );
    const serverMessageId = requestIdOf(response, api.scrub);
    await leave(response);
    return {
      response: api.scrub(`${response.status} ${response.statusText || 'Accepted'}`),
      ...(serverMessageId !== undefined && { serverMessageId }),
    };
  }

  async #api(
    message: OutgoingMessage,
    signal: AbortSignal | undefined,
    options: SendOptions,
  ): Promise<GraphApi> {
    const { objectId } = this.#connection;
    const [from] = parseAddresses(message.sender ?? message.from ?? []);
    const user =
      objectId === undefined ? (from?.address ?? '') : await revealSecret(objectId, this.#options.secretBox);
    // Encrypted text shows that it is empty only now.
    if (user === '') {
      throw new MailError('CREDENTIAL_INCOMPLETE', 'The connection lacks the objectId of who sends.', {
        details: { missing: ['objectId'] },
      });
    }
    const { fetch = globalThis.fetch } = this.#options.auth ?? {};
    const provider = this.#provider;
    const baseUrl = graphUrlOf(this.#connection);
    const scrubbers = this.#scrubbers;
    return new GraphApi({ baseUrl, user, provider, fetch, scrubbers }, signal, options.transcript);
  }

  async #sendAtOnce(api: GraphApi, mime: Buffer, options: SendOptions): Promise<Response> {
    await untilAborted(options.signal, () => options.beforeData?.(), cancelledBefore);
    return api.request({
      ...{ method: 'POST', path: '/sendMail', body: mime.toString('base64'), contentType: 'text/plain' },
      ...{
        expect: 202,
        permission: 'Mail.Send',
        phase: 'confirm',
        limitMs: this.#connection.timeouts.confirmMs,
      },
    });
  }

  async #sendDraft(
    draft: DraftDelivery,
    mime: Buffer,
    { attachments, hasHtml }: { attachments: readonly OpenedAttachment[]; hasHtml: boolean },
    options: SendOptions,
  ): Promise<Response> {
    try {
      await untilAborted(options.signal, () => draft.make(mime), cancelledBefore);
      await draft.attach(attachments, hasHtml);
      await untilAborted(options.signal, () => options.beforeData?.(), cancelledBefore);
      return await draft.send(this.#connection.timeouts.confirmMs);
    } catch (error) {
      // A draft whose sending is in doubt is all there is to find out with.
      if (!(isMailError(error) && error.inDoubt)) {
        const tidied = draft.discard().finally(() => this.#tidying.delete(tidied));
        this.#tidying.add(tidied);
        // Who gives up does not wait for that, nor does anybody for long; who closes the sender does.
        await untilAborted(options.signal, () => atMostFor(tidied, longestWaitMs)).catch(() => undefined);
      }
      throw error;
    }
  }

  /** Takes nothing more, and waits for sends in flight, up to the deadline. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#inFlight.close();
    await atMostFor(Promise.all(this.#tidying), tidyingMs);
  }
}
