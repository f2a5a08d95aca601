import {
  type Clock,
  type EmailMessageInput,
  isMailError,
  type MailError,
  type MailSender,
  type SendOptions,
  type SendReceipt,
  systemClock,
  toMailError,
} from '@flowpost/core';

export interface RetryOptions {
  /** How often to try at all. Default 3. */
  readonly attempts?: number | undefined;
  /** The longest first wait in milliseconds; it doubles each time. Default 1,000. */
  readonly firstDelayMs?: number | undefined;
  /** No wait is longer; what a server asks for beyond it ends the attempts. Default 60,000. */
  readonly longestDelayMs?: number | undefined;
  /** What to do when nobody knows whether the message was delivered. Default `hold`: nothing, so never twice. */
  readonly onDoubt?: 'hold' | 'resend' | undefined;
  readonly clock?: Clock | undefined;
  /** From 0 to 1, for jitter. */
  readonly random?: (() => number) | undefined;
}

/** What of a failed attempt the next one keeps, so that it is the same message (RFC 5322 section 3.6.4). */
function sameMessage(message: EmailMessageInput, { details }: MailError): EmailMessageInput {
  const { messageId, date } = details;
  return {
    ...message,
    ...(typeof messageId === 'string' && { messageId }),
    ...(typeof date === 'string' && { date }),
  };
}

class RetrySender implements MailSender {
  readonly #sender: MailSender;
  readonly #options: RetryOptions;

  constructor(sender: MailSender, options: RetryOptions) {
    this.#sender = sender;
    this.#options = options;
  }

  async send(message: EmailMessageInput, options: SendOptions = {}): Promise<SendReceipt> {
    const { attempts = 3, clock = systemClock } = this.#options;
    let current = message;
    /** Once it may have been delivered, no later failure makes that untrue. */
    let doubt: MailError | undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        const receipt = await this.#sender.send(current, options);
        return { ...receipt, attempts: receipt.attempts + attempt - 1 };
      } catch (error) {
        if (isMailError(error) && error.inDoubt) doubt ??= error;
        // What is in doubt is sent again once at least, when that was asked for.
        const most = isMailError(error) && error.inDoubt ? Math.max(2, attempts) : attempts;
        const delayMs = isMailError(error) && attempt < most ? this.#delay(error, attempt) : undefined;
        if (delayMs === undefined) {
          if (doubt && doubt !== error) doubt.addDetails({ lastFailure: toMailError(error).toJSON() });
          const failure = doubt ?? error;
          throw isMailError(failure) ? failure.addDetails({ attempts: attempt }) : failure;
        }
        current = sameMessage(current, error as MailError);
        // A caller who gives up in between gets what went wrong, which is more than that it was cancelled.
        const waited = await clock.sleep(delayMs, options.signal).then(
          () => true,
          () => false,
        );
        if (!waited) throw doubt ?? error;
      }
    }
  }

  /** How long to wait before the next attempt; undefined when there is none. */
  #delay(error: MailError, attempt: number): number | undefined {
    const {
      firstDelayMs = 1_000,
      longestDelayMs = 60_000,
      onDoubt = 'hold',
      random = Math.random,
    } = this.#options;
    if (error.inDoubt ? onDoubt !== 'resend' : !error.retryable) return undefined;
    const { retryAfterMs } = error.details;
    // Earlier than a server allows is too early, and prolongs a lock-out.
    const atLeast = typeof retryAfterMs === 'number' ? retryAfterMs : 0;
    if (atLeast > longestDelayMs) return undefined;
    const backOff = Math.min(longestDelayMs, firstDelayMs * 2 ** (attempt - 1));
    return Math.max(atLeast, backOff * (0.5 + random() / 2));
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#sender[Symbol.asyncDispose]();
  }
}

/**
 * A sender that tries again what may succeed later: network failures before the message had gone, and refusals with a
 * 4yz reply. Never what was refused for good, and what is in doubt only when told so, as the same message.
 */
export function withRetry(sender: MailSender, options: RetryOptions = {}): MailSender {
  return new RetrySender(sender, options);
}
