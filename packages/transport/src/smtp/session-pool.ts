import type { SmtpSession } from './smtp-session.ts';

/** A session lent to one send. */
export interface Lease {
  readonly session: SmtpSession;
  /** Whether it was open before, so that the server may have dropped it meanwhile. */
  readonly reused: boolean;
}

/** Sessions of one connection: opened when needed, reused when open, never more than the limit at once. */
export class SessionPool {
  readonly #open: (signal?: AbortSignal) => Promise<SmtpSession>;
  readonly #limit: number;
  readonly #parked: SmtpSession[] = [];
  /** Called in turn, each when a session has become free for it. */
  readonly #waiting: (() => void)[] = [];
  #lent = 0;
  #closed = false;

  constructor(limit: number, open: (signal?: AbortSignal) => Promise<SmtpSession>) {
    this.#limit = limit;
    this.#open = open;
  }

  /**
   * Lends a session; waits when all are in use.
   *
   * @param fresh does not take one that was open before.
   */
  async borrow(signal?: AbortSignal, fresh = false): Promise<Lease> {
    await this.#takeSlot(signal);
    try {
      while (!fresh) {
        const parked = this.#parked.pop();
        if (!parked) break;
        if (!parked.usable) {
          parked.destroy();
          continue;
        }
        parked.park(false);
        return { session: parked, reused: true };
      }
      // A parked session counts against the limit too, so one makes room for a fresh one.
      if (this.#lent + this.#parked.length > this.#limit) this.#parked.pop()?.destroy();
      return { session: await this.#open(signal), reused: false };
    } catch (error) {
      this.#freeSlot();
      throw error;
    }
  }

  /** Takes a session back: parks it, or closes it when it is not to be kept. */
  async giveBack({ session }: Lease, keep: boolean): Promise<void> {
    const park = keep && session.usable && !this.#closed;
    if (park) {
      session.park(true);
      this.#parked.push(session);
    }
    try {
      // Counted until it is closed: a server counts it until then too.
      if (!park) await session.close();
    } finally {
      this.#freeSlot();
    }
  }

  /** Closes every session that is not lent; one that is lent closes when it is given back. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#parked.splice(0).map((session) => session.close()));
  }

  /** Counts a session as lent, at once or when another one is given back. */
  async #takeSlot(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#lent < this.#limit) {
      this.#lent++;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const grant = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(grant), 1);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(grant);
    });
  }

  /** The slot passes to who waits longest, or becomes free. */
  #freeSlot(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#lent--;
  }
}
