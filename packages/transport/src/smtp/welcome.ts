import { type Clock, copyMailError, isMailError, longestTimerMs, type MailError } from '@flowpost/core';
import { tooManySessions } from '../diagnosis/replies/generic.ts';

/** How long a server that takes no more sessions is asked for none, as long as there are some, in milliseconds. */
const countedMs = 10_000;

/** Whether a server counts sessions, of a mailbox or of this machine, and there are as many as it takes. */
const isTooMany = ({ details: { diagnosis } }: MailError): boolean =>
  diagnosis === tooManySessions || diagnosis === 'm365.concurrent-connections';

/** What a server said that wants no more sessions, and until when, on the monotonic clock. */
interface Refusal {
  readonly error: MailError;
  readonly until: number;
  /** How many it takes, as far as is known. */
  readonly open: number;
}

/** The sessions there are beside one's own. */
export interface OtherSessions {
  /** How many, open or being opened. */
  readonly others: number;
  /** How many of all are being opened. */
  readonly opening: number;
}

/** Whether a server wants more sessions: one that said when to come back is not asked before. */
export class Welcome {
  readonly #clock: Clock;
  readonly #onEnd: () => void;
  #refusal: Refusal | undefined;

  /** @param onEnd called when a wait is over. */
  constructor(clock: Clock, onEnd: () => void) {
    this.#clock = clock;
    this.#onEnd = onEnd;
  }

  /** Whether the server wants no more sessions for now. */
  get isOver(): boolean {
    return this.#refusal !== undefined;
  }

  /** Whether there are as many sessions as it takes. */
  isFull({ others }: OtherSessions): boolean {
    return this.#refusal !== undefined && isTooMany(this.#refusal.error) && others >= this.#refusal.open;
  }

  /** @throws MailError what the server said, when it may not be asked for a session. */
  assert(there: OtherSessions): void {
    if (!this.#refusal) return;
    const { error, until } = this.#refusal;
    // It takes so many and no more; one that has ended since leaves room for another. Of how many it takes beside others', it says nothing.
    const isAlone = error.details.diagnosis === tooManySessions && there.others === 0;
    if (isAlone || (isTooMany(error) && !this.isFull(there))) return;
    throw copyMailError(error, { retryAfterMs: until - this.#clock.monotonic() });
  }

  /** A session was opened: one that was under way when another was refused is one more that the server takes. */
  opened({ others, opening }: OtherSessions): void {
    if (!this.#refusal) return;
    this.#refusal = { ...this.#refusal, open: Math.max(this.#refusal.open, others - opening + 1) };
  }

  /** Remembers that a server wants no more sessions for now. */
  heed(error: unknown, { others, opening }: OtherSessions): void {
    const known = this.#refusal;
    // What is said here is no news of the server.
    if (!isMailError(error) || (known && error.cause === known.error)) return;
    if (error.code !== 'AUTH_DEFERRED' && error.code !== 'GREETING_DEFERRED') return;
    // Those that are logged in are what it takes; it may take fewer by now.
    const open = others - opening;
    // That logins have to wait is not over because there are few sessions.
    if (known && (isTooMany(error) || !isTooMany(known.error))) {
      this.#refusal = { ...known, open: Math.min(known.open, open) };
      const isUncounted = error.details.diagnosis === tooManySessions && others === 0;
      if (isUncounted && isTooMany(known.error)) this.#refusal = undefined;
      return;
    }
    const isCounted = error.details.diagnosis === tooManySessions;
    if (isCounted && others === 0) return;
    const asked = isCounted ? countedMs : error.details.retryAfterMs;
    if (typeof asked !== 'number') return;
    const waitMs = Math.min(asked, longestTimerMs);
    const until = this.#clock.monotonic() + waitMs;
    // What is added to it further up is about one message.
    this.#refusal = { error: copyMailError(error), until, open };
    setTimeout(() => {
      if (this.#refusal?.until === until) this.#refusal = undefined;
      this.#onEnd();
    }, waitMs).unref();
  }
}
