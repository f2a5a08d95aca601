import {
  isMailError,
  type MailError,
  type OutgoingMessage,
  type SendOptions,
  type SendReceipt,
  toMailError,
} from '@flowpost/core';
import {
  beyondLimit,
  continuedReceipt,
  leftOver,
  openIn,
  receiptInDoubt,
  refusedForNow,
} from './partial-receipt.ts';
import { Unconfirmed } from './unconfirmed.ts';

/** The first attempt in doubt, and who may have the message, as far as no receipt has said since that he has. */
interface Doubt {
  readonly error: MailError;
  readonly unconfirmed: Unconfirmed;
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

/** A message over several attempts: who has it, who may have it, and who is left. */
export class RetryCourse {
  /** How many attempts there were that count, the one under way included. */
  attempts = 0;
  /** The message as it is tried next. */
  message: OutgoingMessage;
  /** Unix milliseconds. */
  readonly #begunAt: number;
  /** Once it may have been delivered, no later failure makes that untrue. */
  #doubt: Doubt | undefined;
  /** What was delivered, when it was not to all. */
  #delivered: SendReceipt | undefined;
  /** For whom it is tried, when not for all. */
  #left: readonly string[] = [];
  /** Why the last attempt failed; undefined when it did not. */
  #failure: unknown;
  /** How often whoever had the last attempt tried, besides. */
  #within = 0;

  constructor(message: OutgoingMessage, begunAt: number) {
    this.message = message;
    this.#begunAt = begunAt;
  }

  /** The options for those who are left. */
  for(options: SendOptions): SendOptions {
    return this.#delivered ? { ...options, onlyTo: this.#left } : options;
  }

  /**
   * An attempt ended with a receipt.
   *
   * @returns when those who are left are tried: `now` where the server took as many as it takes in one message, which is no further
   *   attempt, `later` where it put them off, `never` where nobody is.
   */
  took(receipt: SendReceipt): 'now' | 'later' | 'never' {
    const before = this.#delivered?.accepted.length ?? 0;
    const delivered = this.#delivered ? continuedReceipt(this.#delivered, this.#left, receipt) : receipt;
    this.#delivered = delivered;
    this.#failure = undefined;
    this.#within = receipt.attempts - 1;
    if (this.#doubt && !this.#doubt.unconfirmed.resolve(delivered).any) this.#doubt = undefined;
    const date = this.message.date ?? new Date(this.#begunAt);
    this.message = { ...this.message, messageId: receipt.messageId, date };
    this.#left = beyondLimit(delivered, before);
    if (this.#left.length > 0) {
      // It did what it could. That ends when nobody is left, or nobody new gets it.
      this.attempts--;
      return 'now';
    }
    this.#left = refusedForNow(delivered);
    return this.#left.length > 0 ? 'later' : 'never';
  }

  /** An attempt failed. */
  failed(error: unknown): void {
    const isClosed = isMailError(error) && error.code === 'SENDER_CLOSED';
    // Closed while it waited to try again: why the last attempt failed says more.
    this.#failure = isClosed && this.#failure !== undefined ? this.#failure : error;
    this.#within = 0;
    if (!isMailError(error)) return;
    if (error.inDoubt) {
      this.#doubt ??= { error, unconfirmed: new Unconfirmed() };
      this.#doubt.unconfirmed.add(error, this.#delivered && this.#left);
      this.#delivered ??= receiptInDoubt(error);
      if (this.#delivered && this.#left.length === 0) this.#left = openIn(this.#delivered);
    }
    if (this.#delivered) {
      this.#delivered = continuedReceipt(this.#delivered, this.#left, error);
      this.#left = leftOver(this.#left, error);
      this.#doubt?.unconfirmed.resolve(this.#delivered);
    }
    if (error.retryable || error.inDoubt) this.message = sameMessage(this.message, error);
  }

  /** What there is after the last attempt. @throws whatever it failed with, or the doubt. */
  end(): SendReceipt {
    const attempts = this.attempts + this.#within;
    const delivered = this.#delivered;
    // Those who were refused for now were refused after all.
    if (delivered && !this.#doubt) return { ...delivered, attempts };
    const thrown = this.#doubt ? this.#doubtAsError(this.#doubt) : this.#failure;
    throw isMailError(thrown) ? thrown.replaceDetails({ attempts }) : thrown;
  }

  #doubtAsError({ error, unconfirmed }: Doubt): MailError {
    const delivered = this.#delivered;
    if (this.#failure !== undefined && error !== this.#failure)
      error.addDetails({ lastFailure: toMailError(this.#failure).toJSON() });
    error.replaceDetails(unconfirmed.details());
    if (!delivered) return error;
    const rejected = delivered.rejected.filter(({ code }) => code !== 0);
    return error.replaceDetails({ accepted: delivered.accepted, rejected, delivered });
  }
}
