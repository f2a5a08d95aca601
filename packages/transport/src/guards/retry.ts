import {
  anySignal,
  type Clock,
  isMailError,
  type MailError,
  type MailSender,
  type OutgoingMessage,
  type SendOptions,
  type SendReceipt,
  systemClock,
} from '@flowpost/core';
import { withinTime } from '../abortable.ts';
import { asGiven } from './as-given.ts';
import { RetryCourse } from './retry-course.ts';

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
    const { clock = systemClock } = this.#options;
    const course = new RetryCourse(asGiven(message), clock.now());
    for (;;) {
      const delayMs = await this.#try(course, options);
      if (delayMs === undefined) return course.end();
      if (delayMs === 0) continue;
      // A caller who gives up in between gets what there is, which is more than that it was cancelled.
      const waited = await clock.sleep(delayMs, this.#ends(options.signal)).then(
        () => true,
        () => false,
      );
      if (!waited) return course.end();
    }
  }

  /** One attempt. @returns how long to wait before the next one, in milliseconds; undefined when there is none. */
  async #try(course: RetryCourse, options: SendOptions): Promise<number | undefined> {
    const { attempts = 3 } = this.#options;
    course.attempts++;
    try {
      const next = course.took(await this.#sender.send(course.message, course.for(options)));
      if (next === 'now') return 0;
      return next === 'later' && course.attempts < attempts ? this.#backOff(course.attempts) : undefined;
    } catch (error) {
      course.failed(error);
      if (!isMailError(error) || error.code === 'SENDER_CLOSED' || options.signal?.aborted) return undefined;
      // What is in doubt is sent again once at least, when that was asked for.
      const most = error.inDoubt ? Math.max(2, attempts) : attempts;
      return course.attempts < most ? this.#delay(error, course.attempts) : undefined;
    }
  }

  /** What ends waiting for the next attempt. */
  #ends(signal: AbortSignal | undefined): AbortSignal {
    this.#closed ??= new AbortController();
    return anySignal(signal, this.#options.closing, this.#closed.signal);
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
