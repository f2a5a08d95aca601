import { isInDoubt, isRetryable, type Phase } from '../phase.ts';
import { type ErrorCategory, type ErrorCode, errorCodes } from './error-codes.ts';
import { isError } from './is-error.ts';

const marker = Symbol.for('flowpost.mail-error');

/** Plain JSON values that describe an error. Never put a secret here: it is printed, stored and logged. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/** What is known about a failure beside its code and message. */
export interface MailErrorOptions {
  /** The step in which it happened. Default `validate`. */
  readonly phase?: Phase | undefined;
  /** The server's reply code, when there was a reply; decides `retryable` and `inDoubt`. */
  readonly replyCode?: number | undefined;
  /** Replaces what phase and reply code say, for the cases where more is known. */
  readonly retryable?: boolean | undefined;
  /** Replaces the hint of the code table with a more precise one. */
  readonly hint?: string | undefined;
  readonly details?: ErrorDetails | undefined;
  readonly cause?: unknown;
}

/** What `JSON.stringify` makes of a {@link MailError}. It carries no stack, no cause and no secret. */
export interface MailErrorJson {
  readonly code: ErrorCode;
  readonly category: ErrorCategory;
  readonly phase: Phase;
  readonly retryable: boolean;
  readonly inDoubt: boolean;
  readonly hint: string;
  readonly message: string;
  readonly details?: ErrorDetails;
}

/**
 * Every failure of sending, as one type. `code` is stable and listed in `errorCodes`; `retryable` and `inDoubt`
 * are decided from the phase and the reply code, never from words in a text.
 */
export class MailError extends Error {
  override readonly name = 'MailError';
  readonly code: ErrorCode;
  readonly category: ErrorCategory;
  readonly phase: Phase;
  /** The same request may succeed later, and repeating it cannot deliver twice. */
  readonly retryable: boolean;
  /** The server may already have the message. */
  readonly inDoubt: boolean;
  /** What a person can do about it. */
  readonly hint: string;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: MailErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const { phase = 'validate', replyCode } = options;
    const { category, hint } = errorCodes[code];
    this.code = code;
    this.category = category;
    this.phase = phase;
    this.inDoubt = isInDoubt(phase, replyCode);
    this.retryable =
      !this.inDoubt &&
      (options.retryable ??
        (category === 'network' || category === 'temporary' ? isRetryable(phase, replyCode) : false));
    this.hint = options.hint ?? hint;
    this.details = options.details ?? {};
    Object.defineProperty(this, marker, { value: true });
  }

  /** Adds what is known further up, such as the Message-ID; what is there already stays. */
  addDetails(details: ErrorDetails): this {
    // Whoever froze it wants it as it is.
    if (Object.isFrozen(this)) return this;
    (this as { details: ErrorDetails }).details = { ...details, ...this.details };
    return this;
  }

  /** Puts details in the place of those of the same names, which turned out otherwise since. */
  replaceDetails(details: ErrorDetails): this {
    if (!Object.isFrozen(this)) (this as { details: ErrorDetails }).details = { ...this.details, ...details };
    return this;
  }

  toJSON(): MailErrorJson {
    const { code, category, phase, retryable, inDoubt, hint, message, details } = this;
    return {
      code,
      category,
      phase,
      retryable,
      inDoubt,
      hint,
      message,
      ...(Object.keys(details).length > 0 && { details }),
    };
  }
}

/**
 * Whether a value is a {@link MailError}. Goes by a marker, not by `instanceof`, so that it also holds when two
 * copies of this package are installed side by side.
 */
export function isMailError(value: unknown): value is MailError {
  return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[marker] === true;
}

/**
 * The same failure for somebody else, as an error of its own: several sends may fail of one thing, and what is added for one of
 * them is not true of the others.
 *
 * @param thrown stays as it is when it is none of ours.
 * @param more details in the place of those of the same names.
 */
export function copyMailError<Thrown>(thrown: Thrown, more: ErrorDetails = {}): Thrown {
  if (!isMailError(thrown)) return thrown;
  const { code, message, phase, retryable, inDoubt, hint } = thrown;
  const details = { ...thrown.details, ...more };
  const copy = new MailError(code, message, { phase, hint, details, cause: thrown });
  return Object.assign(copy, { retryable, inDoubt }) as Thrown & MailError;
}

/** Turns anything thrown into a {@link MailError}; what is not one already is a defect and becomes `INTERNAL`. */
export function toMailError(thrown: unknown, phase: Phase = 'validate'): MailError {
  if (isMailError(thrown)) return thrown;
  const message = isError(thrown) ? thrown.message : `something that is not an error (${typeof thrown})`;
  return new MailError('INTERNAL', `Unexpected failure: ${message}`, { phase, cause: thrown });
}

/** What went wrong and what to do about it, in one line for people. */
export const adviceOf = ({ message, hint }: Pick<MailErrorJson, 'message' | 'hint'>): string =>
  `${message}${/[.!?]$/.test(message) ? '' : '.'} ${hint}`;
