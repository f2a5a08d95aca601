import {
  type Clock,
  isMailError,
  type MailError,
  type MailSender,
  type OutgoingMessage,
  type SendOptions,
  type SendReceipt,
  systemClock,
  toMailError,
} from '@flowpost/core';
import { withinTime } from '../abortable.ts';
import { asGiven } from './as-given.ts';
import {
  beyondLimit,
  continuedReceipt,
  leftOver,
  openIn,
  receiptInDoubt,
  refusedForNow,
} from './partial-receipt.ts';
import { Unconfirmed } from './unconfirmed.ts';

/** How often to try, how long to wait in between, and what to do about doubt. */
export interface RetryOptions {
  /** How often to try at all. Default 3. */
  readonly attempts?: number | undefined;
  /** The longest first wait in milliseconds; it doubles each time. Default 1,000. */
  readonly firstDelayMs?: number | undefined;
  /** No wait is longer; what a server asks for beyond it ends the attempts. Default 60,000. */
  readonly longestDelayMs?: number | undefined;
  /** What to do when nobody knows whether the message was delivered. Default `hold`: nothing, so never twice. */
  readonly onDoubt?: 'hold' | 'resend' | undefined;
  /** Ends waiting between attempts, as disposing the sender does: what failed last is thrown. */
  readonly closing?: AbortSignal | undefined;
  readonly clock?: Clock | undefined;
  /** From 0 to 1, for jitter. */
  readonly random?: (() => number) | undefined;
}

/** What of a failed attempt the next one keeps, so that it is the same message (RFC 5322 section 3.6.4). */
function sameMessage(message: OutgoingMessage, { details }: MailError): OutgoingMessage {
  const { messageId, date } = details;
  return {
    ...message,
    ...(message.messageId === undefined && typeof messageId === 'string' && { messageId }),
    ...(message.date === undefined && typeof date === 'string' && { date }),
  };
}

/** The first attempt in doubt, and who may have the message, as far as no receipt has said since that he has. */
interface Doubt {
  readonly error: MailError;
  readonly unconfirmed: Unconfirmed;
}

class RetrySender implements MailSender {
  readonly #sender: MailSender;
  readonly #options: RetryOptions;
  /** Made by who waits or closes: most sends need none. */
  #closed: AbortController | undefined;

  constructor(sender: MailSender, options: RetryOptions) {
    this.#sender = sender;
    this.#options = options;
  }

  async send(message: OutgoingMessage, given: SendOptions = {}): Promise<SendReceipt> {
    // The time allowed is for all attempts together.
    const options = withinTime(given);
    const { attempts = 3, clock = systemClock } = this.#options;
    const begunAt = clock.now();
    let current = asGiven(message);
    /** Once it may have been delivered, no later failure makes that untrue. */
    let doubt: Doubt | undefined;
    /** Why the last attempt failed. */
    let last: unknown;
    /** What earlier attempts delivered, when it was not to all. */
    let delivered: SendReceipt | undefined;
    /** For whom it is tried, when not for all. */
    let left: readonly string[] = [];
    for (let attempt = 1; ; attempt++) {
      let delayMs = 0;
      let failure: unknown;
      /** How often it was tried, when that was it. */
      let ended: number | undefined;
      try {
        const receipt = await this.#sender.send(current, delivered ? { ...options, onlyTo: left } : options);
        const before = delivered?.accepted.length ?? 0;
        delivered = delivered ? continuedReceipt(delivered, left, receipt) : receipt;
        if (doubt && !doubt.unconfirmed.resolve(delivered).any) doubt = undefined;
        left = beyondLimit(delivered, before);
        // It did what it could, so it does not count. That ends when nobody is left, or nobody new gets it.
        if (left.length > 0) attempt--;
        else {
          left = refusedForNow(delivered);
          if (attempt >= attempts || left.length === 0) ended = receipt.attempts + attempt - 1;
          delayMs = this.#backOff(attempt);
        }
        const date = current.date ?? new Date(begunAt);
        current = { ...current, messageId: receipt.messageId, date };
      } catch (error) {
        const isClosed = isMailError(error) && error.code === 'SENDER_CLOSED';
        // Closed while it waited to try again: why the last attempt failed says more.
        failure = isClosed && last !== undefined ? last : error;
        last = failure;
        if (isMailError(error) && error.inDoubt) {
          doubt ??= { error, unconfirmed: new Unconfirmed() };
          doubt.unconfirmed.add(error, delivered && left);
          if (!delivered) delivered = receiptInDoubt(error);
          if (delivered && left.length === 0) left = openIn(delivered);
        }
        if (delivered && isMailError(error)) {
          delivered = continuedReceipt(delivered, left, error);
          left = leftOver(left, error);
          doubt?.unconfirmed.resolve(delivered);
        }
        // What is in doubt is sent again once at least, when that was asked for.
        const most = isMailError(error) && error.inDoubt ? Math.max(2, attempts) : attempts;
        const mayGoOn = attempt < most && !isClosed && !options.signal?.aborted;
        const wait = isMailError(error) && mayGoOn ? this.#delay(error, attempt) : undefined;
        if (wait === undefined) return this.#end(failure, doubt, delivered, attempt);
        delayMs = wait;
        current = sameMessage(current, error as MailError);
      }
      if (ended !== undefined) return this.#end(undefined, doubt, delivered, ended);
      if (delayMs === 0) continue;
      // A caller who gives up in between gets what there is, which is more than that it was cancelled.
      const waited = await clock.sleep(delayMs, this.#ends(options.signal)).then(
        () => true,
        () => false,
      );
      if (!waited) return this.#end(failure, doubt, delivered, attempt);
    }
  }

  /** What ends waiting for the next attempt. */
  #ends(signal: AbortSignal | undefined): AbortSignal {
    this.#closed ??= new AbortController();
    const all = [signal, this.#options.closing, this.#closed.signal];
    return AbortSignal.any(all.filter((one) => one !== undefined));
  }

  /** What there is after the last attempt. */
  #end(
    failure: unknown,
    doubt: Doubt | undefined,
    delivered: SendReceipt | undefined,
    attempts: number,
  ): SendReceipt {
    // Those who were refused for now were refused after all.
    if (delivered && !doubt) return { ...delivered, attempts };
    if (doubt) {
      const { error, unconfirmed } = doubt;
      if (failure !== undefined && error !== failure)
        error.addDetails({ lastFailure: toMailError(failure).toJSON() });
      error.replaceDetails(unconfirmed.details());
    }
    if (doubt && delivered) {
      const rejected = delivered.rejected.filter(({ code }) => code !== 0);
      doubt.error.replaceDetails({ accepted: delivered.accepted, rejected, delivered });
    }
    const thrown = doubt?.error ?? failure;
    throw isMailError(thrown) ? thrown.replaceDetails({ attempts }) : thrown;
  }

  /** How long to wait before the next attempt; undefined when there is none. */
  #delay(error: MailError, attempt: number): number | undefined {
    const { longestDelayMs = 60_000, onDoubt = 'hold' } = this.#options;
    if (error.inDoubt ? onDoubt !== 'resend' : !error.retryable) return undefined;
    const { retryAfterMs } = error.details;
    // Earlier than a server allows is too early, and prolongs a lock-out.
    const atLeast = typeof retryAfterMs === 'number' ? retryAfterMs : 0;
    if (atLeast > longestDelayMs) return undefined;
    return Math.max(atLeast, this.#backOff(attempt));
  }

  #backOff(attempt: number): number {
    const { firstDelayMs = 1_000, longestDelayMs = 60_000, random = Math.random } = this.#options;
    return Math.min(longestDelayMs, firstDelayMs * 2 ** (attempt - 1)) * (0.5 + random() / 2);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    this.#closed ??= new AbortController();
    this.#closed.abort();
    return this.#sender[Symbol.asyncDispose]();
  }
}

/**
 * A sender that tries again what may succeed later: network failures before the message had gone, and refusals with a
 * 4yz reply, also of some of the recipients only. Recipients beyond what a server takes in one message get another one at once,
 * which is no further attempt. Never what was refused for good, and what is in doubt only when told so,
 * as the same message.
 */
export function withRetry(sender: MailSender, options: RetryOptions = {}): MailSender {
  return new RetrySender(sender, options);
}
