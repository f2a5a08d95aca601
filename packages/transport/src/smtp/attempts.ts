import {
  isMailError,
  type Logger,
  MailError,
  type RejectedRecipient,
  type SendOptions,
} from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import { isRefusedForAll, isRefusedForNow, isUsedUp } from '../diagnosis/reply-failure.ts';
import type { Delivered } from './session-contract.ts';
import type { Lease, SessionPool } from './session-pool.ts';

/** As often a message is begun anew without those over whom the server hung up: a login each. */
const mostHangUps = 10;

/** The server ended a session that was open before. Of the message no byte was read, so it is whole for a new one. */
function wasDroppedWhileParked(error: unknown): boolean {
  if (!isMailError(error) || error.phase !== 'envelope') return false;
  // RFC 5321 section 4.2.1: with 421 a server closes the session, whatever it was asked.
  // One that says when to come back does not want to be asked again at once.
  const { replyCode, enhancedCode, retryAfterMs } = error.details;
  if (error.code === 'SENDER_DEFERRED' && isUsedUp({ code: replyCode, enhancedCode })) return true;
  return error.code === 'CONNECTION_LOST' || (replyCode === 421 && retryAfterMs === undefined);
}

/**
 * Whom a server had refused for good when it hung up, so that the others got nothing either: Postfix does so with 521, and with 421 after
 * twenty of them. They are left out when it is tried again.
 */
function hungUpOver(error: unknown, { envelope }: ComposedMessage): readonly RejectedRecipient[] {
  if (!isMailError(error) || error.phase !== 'envelope') return [];
  const { rejected = [], replyCode, retryAfterMs } = error.details;
  const isOver = error.code === 'CONNECTION_LOST' || (replyCode === 421 && retryAfterMs === undefined);
  const refused = rejected as readonly RejectedRecipient[];
  const forGood = refused.filter((one) => !isRefusedForNow(one));
  return isOver && !refused.some(isRefusedForAll) && forGood.length < envelope.to.length ? forGood : [];
}

/**
 * The message for some of its recipients.
 *
 * @throws MailError `RECIPIENTS_MISSING` when none of them is one.
 */
export function onlyTo(message: ComposedMessage, addresses: readonly string[] | undefined): ComposedMessage {
  if (addresses === undefined) return message;
  const { envelope } = message;
  const known = new Set(envelope.to);
  // In the order asked for: who comes first has better chances where a server takes so many.
  const to = [...new Set(addresses)].filter((one) => known.has(one));
  if (to.length > 0) return { ...message, envelope: { ...envelope, to } };
  if (!Buffer.isBuffer(message.body)) message.body.destroy();
  throw new MailError('RECIPIENTS_MISSING', 'None of those in onlyTo is a recipient of the message.');
}

export interface AttemptsContext {
  readonly pool: Pick<SessionPool, 'offer' | 'giveBack'>;
  /** A session that was not open before. */
  readonly borrowFresh: () => Promise<Lease>;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly endpoint: Endpoint;
}

/** One message on its way: over another session where one was lost, as long as the server has nothing of it. */
export class Attempts {
  /** How many were begun. */
  count = 0;
  /** Those over whom the server hung up. */
  readonly refused: RejectedRecipient[] = [];
  /** The message, for those it is still to be sent to. */
  message: ComposedMessage;
  readonly #options: SendOptions;
  readonly #context: AttemptsContext;
  /** Whoever was told that the message leaves need not expect to be told again. */
  #mayLeave = false;
  #hangUps = 0;

  constructor(message: ComposedMessage, options: SendOptions, context: AttemptsContext) {
    this.message = message;
    this.#options = options;
    this.#context = context;
  }

  /** @throws MailError */
  async run(lease: Lease): Promise<Delivered> {
    const { logger, endpoint } = this.#context;
    try {
      return await this.#deliver(lease);
    } catch (error) {
      const isDropped = lease.reused && !this.#mayLeave && wasDroppedWhileParked(error);
      if (!isDropped || hungUpOver(error, this.message).length > 0) return this.#withOthers(error);
      logger.debug('parked SMTP session had been dropped; opening a new one', { ...endpoint });
    }
    return this.#again();
  }

  async #again(): Promise<Delivered> {
    try {
      return await this.#deliver(await this.#context.borrowFresh());
    } catch (error) {
      return this.#withOthers(error);
    }
  }

  /** Without those because of whom the server hung up. Each time they are fewer. */
  #withOthers(error: unknown): Promise<Delivered> {
    const { onPartial = 'accept' } = this.#options;
    const { message } = this;
    const gone = onPartial === 'accept' && !this.#mayLeave ? hungUpOver(error, message) : [];
    if (gone.length === 0 || ++this.#hangUps > mostHangUps) throw error;
    this.refused.push(...gone);
    const left = message.envelope.to.filter((to) => !gone.some(({ address }) => address === to));
    this.message = { ...message, envelope: { ...message.envelope, to: left } };
    return this.#again();
  }

  async #deliver(lease: Lease): Promise<Delivered> {
    this.count++;
    const { pool, signal } = this.#context;
    const { closeSession = false, onPartial = 'accept', dsn, requireTls, transcript } = this.#options;
    const beforeEnd = closeSession || transcript ? undefined : () => pool.offer(lease);
    const beforeData = this.#options.beforeData && (() => this.#beforeData());
    const options = { onPartial, beforeData, beforeEnd, signal, dsn, requireTls, transcript };
    try {
      return await lease.session.deliver(this.message, options);
    } finally {
      const back = pool.giveBack(lease, !closeSession);
      // A caller who gives up does not wait for the session to end.
      if (signal.aborted) back.catch(() => undefined);
      else await back;
    }
  }

  async #beforeData(): Promise<void> {
    await this.#options.beforeData?.();
    this.#mayLeave = true;
  }
}
