import { type Clock, copyMailError, isMailError, type TranscriptListener } from '@flowpost/core';
import { Slots } from '../slots.ts';
import type { SmtpSession } from './smtp-session.ts';
import { type OtherSessions, Welcome } from './welcome.ts';

/** A session that is lent: to one send, and to the next as well from when the first has only its answer to wait for. */
interface Lent {
  readonly session: SmtpSession;
  holders: number;
}

/** A session lent to one send. */
export interface Lease {
  readonly session: SmtpSession;
  readonly lent: Lent;
  /** Whether it was open before, so that the server may have dropped it meanwhile. */
  readonly reused: boolean;
}

export interface SessionPoolOptions {
  /** Sessions open at the same time. */
  readonly connections: number;
  /** How long a session may wait for its next message, in milliseconds. */
  readonly idleMs: number;
  /** How long a session is used at all, in milliseconds. */
  readonly lifetimeMs: number;
  readonly clock: Clock;
  open(request: BorrowRequest): Promise<SmtpSession>;
}

/** For how long a server that did not hear an early envelope gets no other, in milliseconds. */
const unheardMs = 3_600_000;

/** For whom a session is wanted. */
export interface BorrowRequest {
  readonly signal?: AbortSignal | undefined;
  /** Hears the opening of a new session. */
  readonly transcript?: TranscriptListener | undefined;
}

interface Parked {
  readonly session: SmtpSession;
  readonly timer: NodeJS.Timeout;
}

/** Who waits would log in with what was refused just now, and enough of that locks a mailbox. */
export function refuseAlike(
  waiting: { refuseWaiting(reason: () => unknown): void } | undefined,
  error: unknown,
): void {
  // Some servers tell in their answer to a message that another one refused them. That is about this message.
  if (isMailError(error) && error.code === 'AUTH_REFUSED' && error.phase === 'auth')
    waiting?.refuseWaiting(() => copyMailError(error));
}

/** Sessions of one connection: opened when needed, reused when open, never more than the limit at once. */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #parked: Parked[] = [];
  /** When each session must not be used any more. */
  readonly #expiry = new WeakMap<SmtpSession, number>();
  readonly #slots: Slots<Lent>;
  /** Those whose message has only its answer to wait for, so that the next one can say its envelope already. */
  readonly #offered = new Set<Lent>();
  /** When the server may be sent another envelope with the message before it, on the monotonic clock. */
  #aheadFrom = 0;
  /** The session that ended when such an envelope came, as long as none has been heard since. */
  #endedEarly: SmtpSession | undefined;
  readonly #welcome: Welcome;
  /** How many are being opened. */
  #opening = 0;
  #closed = false;

  constructor(options: SessionPoolOptions) {
    this.#options = options;
    this.#slots = new Slots(options.connections);
    this.#welcome = new Welcome(options.clock, () => this.#slots.restore());
  }

  /**
   * Lends a session; waits when all are in use.
   *
   * @param fresh does not take one that was open before, and waits before all others: whoever needs this had his turn.
   */
  async borrow(request: BorrowRequest = {}, fresh = false): Promise<Lease> {
    const takesLent = !fresh && !request.transcript;
    for (let isNext = fresh; ; isNext = true) {
      const lent =
        (takesLent && this.#takeOffered()) ||
        (await this.#slots.take(request.signal, { takesGift: takesLent, isNext }));
      if (lent) return { session: lent.session, lent, reused: true };
      try {
        const parked = fresh ? undefined : this.#takeParked();
        if (parked) return this.#lend(parked, true);
        return this.#lend(await this.#open(request), false);
      } catch (error) {
        this.#welcome.heed(error, this.#beside);
        refuseAlike(this.#slots, error);
        // Too many sessions for the server are enough for who waits, as long as some of them are open. What is refused for good is so for all.
        const isLater = isMailError(error) && error.retryable;
        const isEnough = isLater && this.#welcome.isOver && this.#slots.taken > 1;
        if (!isEnough) {
          this.#slots.free();
          throw error;
        }
        this.#slots.withdraw();
      }
    }
  }

  async #open(request: BorrowRequest): Promise<SmtpSession> {
    // One that nobody uses makes room for a fresh one.
    if (this.#welcome.isFull(this.#beside)) this.#unpark()?.destroy();
    this.#welcome.assert(this.#beside);
    // A parked session counts against the limit too, so one makes room for a fresh one.
    if (this.#slots.taken + this.#parked.length > this.#options.connections) this.#unpark()?.destroy();
    this.#opening++;
    const session = await this.#options.open(request).finally(() => this.#opening--);
    this.#welcome.opened(this.#beside);
    this.#expiry.set(session, this.#options.clock.monotonic() + this.#options.lifetimeMs);
    return session;
  }

  #lend(session: SmtpSession, reused: boolean): Lease {
    return { session, reused, lent: { session, holders: 1 } };
  }

  /** When everything is in use and nobody was here before: a session that has only an answer to wait for. */
  #takeOffered(): Lent | undefined {
    if (!this.#hearsAhead() || !this.#slots.full || this.#slots.hasWaiting) return undefined;
    for (const lent of this.#offered) {
      this.#offered.delete(lent);
      if (!this.#isGood(lent.session)) continue;
      lent.holders++;
      return lent;
    }
    return undefined;
  }

  /**
   * Offers a session, whose message is about to be handed over, to the next one.
   *
   * @returns whether one was waiting for it.
   */
  offer({ lent }: Lease): boolean {
    const { session } = lent;
    if (!this.#hearsAhead() || this.#closed || !session.takesAhead || !this.#isGood(session)) return false;
    lent.holders++;
    if (this.#slots.give(lent)) return true;
    lent.holders--;
    this.#offered.add(lent);
    return false;
  }

  /** Whether all sessions there may be now are in use. */
  get full(): boolean {
    return this.#slots.full;
  }

  /** Whether several sessions are in use, and more sends wait for one. */
  get crowded(): boolean {
    return this.#slots.taken > 1 && this.#slots.hasWaiting;
  }

  #hearsAhead(): boolean {
    return this.#aheadFrom === 0 || this.#options.clock.monotonic() >= this.#aheadFrom;
  }

  /** One session that ends after a message is no news. When the next one does so too, that is why. */
  #learn(session: SmtpSession): void {
    const { early } = session;
    const isSecond = early === 'ended' && this.#endedEarly !== undefined && this.#endedEarly !== session;
    if (early === 'unheard' || isSecond) this.#aheadFrom = this.#options.clock.monotonic() + unheardMs;
    if (early === 'heard') this.#endedEarly = undefined;
    else if (early === 'ended') this.#endedEarly = session;
  }

  /** The sessions beside one's own. */
  get #beside(): OtherSessions {
    return { others: this.#slots.taken - 1 + this.#parked.length, opening: this.#opening };
  }

  #unpark(): SmtpSession | undefined {
    const parked = this.#parked.pop();
    clearTimeout(parked?.timer);
    return parked?.session;
  }

  /** The session that was used last, so that those not needed grow old. */
  #takeParked(): SmtpSession | undefined {
    for (let session = this.#unpark(); session; session = this.#unpark()) {
      if (this.#isGood(session)) {
        session.park(false);
        return session;
      }
      // Cut, not closed: until it had said goodbye it would count beside the one that takes its place.
      session.destroy();
    }
    return undefined;
  }

  /** Open as far as is known, not too old, and logged in with something still valid. */
  #isGood(session: SmtpSession): boolean {
    const { clock } = this.#options;
    const isYoung = clock.monotonic() < (this.#expiry.get(session) ?? 0);
    return session.usable && !session.isUsedUp && isYoung && clock.now() < session.loginExpiresAt;
  }

  /**
   * Takes a session back: parks it, or closes it when it is not to be kept. Then those that were opened beside it and are parked go as
   * well: they belong to whoever closes it.
   */
  async giveBack({ session, lent }: Lease, keep: boolean): Promise<void> {
    this.#learn(session);
    const others = keep ? undefined : this.#closeParked();
    if (--lent.holders > 0) return others;
    this.#offered.delete(lent);
    const park = keep && !this.#closed && this.#isGood(session);
    if (park) {
      session.park(true);
      const timer = setTimeout(() => this.#expire(session), this.#options.idleMs).unref();
      this.#parked.push({ session, timer });
    }
    try {
      // Counted until it is closed: a server counts it until then too.
      if (!park) await Promise.all([session.close(), others]);
    } finally {
      this.#slots.free();
    }
  }

  #expire(session: SmtpSession): void {
    const at = this.#parked.findIndex((parked) => parked.session === session);
    if (at < 0) return;
    this.#parked.splice(at, 1);
    // Nobody waits for the answer to QUIT, and the session must not count any more.
    session.leave();
  }

  /** Closes every session that is not lent; one that is lent closes when it is given back. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#closeParked();
  }

  /** Closes the sessions that nobody uses. */
  async #closeParked(): Promise<void> {
    const closing: Promise<void>[] = [];
    for (let session = this.#unpark(); session; session = this.#unpark()) closing.push(session.close());
    await Promise.all(closing);
  }
}
