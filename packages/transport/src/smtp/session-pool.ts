import type { Clock } from '@flowpost/core';
import type { SmtpSession } from './smtp-session.ts';
import type { TranscriptListener } from './transcript.ts';

/** A session lent to one send. */
export interface Lease {
  readonly session: SmtpSession;
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

/** For whom a session is wanted. */
export interface BorrowRequest {
  readonly signal?: AbortSignal | undefined;
  /** Hears the opening of a new session. */
  readonly transcript?: TranscriptListener | undefined;
}

/** Who waits for a session: gets a slot, or a session that only waits for a confirmation. */
interface Waiter {
  readonly fresh: boolean;
  grant(session?: SmtpSession): void;
}

interface Parked {
  readonly session: SmtpSession;
  readonly timer: NodeJS.Timeout;
}

/** Sessions of one connection: opened when needed, reused when open, never more than the limit at once. */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #parked: Parked[] = [];
  readonly #lentSessions = new Set<SmtpSession>();
  /** When each session must not be used any more. */
  readonly #expiry = new WeakMap<SmtpSession, number>();
  /** Served in turn. */
  readonly #waiting: Waiter[] = [];
  /** Leases whose session is another one's already. */
  readonly #passedOn = new WeakSet<Lease>();
  #lent = 0;
  #closed = false;

  constructor(options: SessionPoolOptions) {
    this.#options = options;
  }

  /**
   * Lends a session; waits when all are in use.
   *
   * @param fresh does not take one that was open before.
   */
  async borrow(request: BorrowRequest = {}, fresh = false): Promise<Lease> {
    const shared = await this.#takeSlot(request.signal, fresh);
    if (shared) return this.#lend(shared, true);
    try {
      const parked = fresh ? undefined : this.#takeParked();
      if (parked) return this.#lend(parked, true);
      // A parked session counts against the limit too, so one makes room for a fresh one.
      if (this.#lent + this.#parked.length > this.#options.connections) this.#unpark()?.destroy();
      const session = await this.#options.open(request);
      this.#expiry.set(session, this.#options.clock.now() + this.#options.lifetimeMs);
      return this.#lend(session, false);
    } catch (error) {
      this.#freeSlot();
      throw error;
    }
  }

  #lend(session: SmtpSession, reused: boolean): Lease {
    this.#lentSessions.add(session);
    return { session, reused };
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
      void session.close();
    }
    return undefined;
  }

  /** Open as far as is known, not too old, and logged in with something still valid. */
  #isGood(session: SmtpSession): boolean {
    const now = this.#options.clock.now();
    const until = Math.min(this.#expiry.get(session) ?? 0, session.loginExpiresAt);
    return session.usable && now < until;
  }

  /**
   * Passes a session on to whoever waits longest: the message it was lent for has left, and only its confirmation is
   * awaited. Without anybody waiting, nothing happens.
   */
  handOver(lease: Lease): void {
    const { session } = lease;
    const [next] = this.#waiting;
    if (!next || next.fresh || this.#closed || !session.canOverlap || !this.#isGood(session)) return;
    this.#waiting.shift();
    this.#passedOn.add(lease);
    next.grant(session);
  }

  /** Takes a session back: parks it, or closes it when it is not to be kept. */
  async giveBack(lease: Lease, keep: boolean): Promise<void> {
    const { session } = lease;
    // The slot and the session belong to the one it was passed on to.
    if (this.#passedOn.has(lease)) return;
    this.#lentSessions.delete(session);
    const park = keep && !this.#closed && this.#isGood(session);
    if (park) {
      session.park(true);
      const timer = setTimeout(() => this.#expire(session), this.#options.idleMs).unref();
      this.#parked.push({ session, timer });
    }
    try {
      // Counted until it is closed: a server counts it until then too.
      if (!park) await session.close();
    } finally {
      this.#freeSlot();
    }
  }

  #expire(session: SmtpSession): void {
    const at = this.#parked.findIndex((parked) => parked.session === session);
    if (at >= 0) this.#parked.splice(at, 1);
    void session.close();
  }

  /** Closes every session that is not lent; one that is lent closes when it is given back. */
  async close(): Promise<void> {
    this.#closed = true;
    const closing: Promise<void>[] = [];
    for (let session = this.#unpark(); session; session = this.#unpark()) closing.push(session.close());
    await Promise.all(closing);
  }

  /** Cuts what is lent: whoever uses it learns what became of the message as from any lost connection. */
  cut(): void {
    for (const session of this.#lentSessions) session.destroy();
  }

  /** Counts a session as lent, at once or when another one is given back. */
  async #takeSlot(signal: AbortSignal | undefined, fresh: boolean): Promise<SmtpSession | undefined> {
    signal?.throwIfAborted();
    if (this.#lent < this.#options.connections) {
      this.#lent++;
      return undefined;
    }
    return new Promise<SmtpSession | undefined>((resolve, reject) => {
      const waiter: Waiter = {
        fresh,
        grant: (session) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(session);
        },
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** The slot passes to who waits longest, or becomes free. */
  #freeSlot(): void {
    const next = this.#waiting.shift();
    if (next) next.grant();
    else this.#lent--;
  }
}
