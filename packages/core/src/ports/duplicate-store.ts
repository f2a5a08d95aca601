import type { MailErrorJson } from '../errors/mail-error.ts';
import type { SendReceipt } from '../receipt.ts';
import { type Clock, systemClock } from './clock.ts';

/**
 * What became of a reservation. `reserved`: send, then `remember`, `keepDoubt` or `release` with the token. `pending`: somebody
 * else is sending it now. `in-doubt`: somebody has tried, and whether it was delivered is in doubt. `sent`: it was sent; here is
 * the receipt. `conflict`: the key was used for other content.
 */
export type Reservation =
  | { readonly state: 'reserved'; readonly token: string }
  | { readonly state: 'pending' }
  | { readonly state: 'in-doubt'; readonly error: MailErrorJson }
  | { readonly state: 'sent'; readonly receipt: SendReceipt }
  | { readonly state: 'conflict' };

/**
 * Remembers what was sent, so that the same thing is not sent twice. Every operation is atomic. A token belongs to one
 * reservation: whoever comes late, after the window has passed and somebody else has reserved, changes nothing.
 */
export interface DuplicateStore {
  /**
   * @param contentHash tells two uses of one key apart.
   * @param windowMs how long it is remembered, from when it was sent or came to be in doubt. What is being sent is reserved as long as
   *   that takes.
   */
  reserve(key: string, contentHash: string, windowMs: number): Promise<Reservation>;
  remember(key: string, token: string, receipt: SendReceipt): Promise<void>;
  /** Keeps the key, and says from now on that it is in doubt. A store without it says `pending`. */
  keepDoubt?(key: string, token: string, error: MailErrorJson): Promise<void>;
  /** Frees the key after a failure that surely delivered nothing. */
  release(key: string, token: string): Promise<void>;
}

interface Entry {
  readonly token: string;
  readonly contentHash: string;
  readonly windowMs: number;
  /** While it is being sent it does not expire. */
  expiresAt?: number;
  /** As JSON: a third of the memory, and what a flow makes of its receipt is no news to others. */
  receipt?: string;
  doubt?: MailErrorJson;
}

const sweepMs = 60_000;

const hasExpired = ({ expiresAt = Number.POSITIVE_INFINITY }: Entry, now: number): boolean =>
  expiresAt <= now;

/** Remembers in this process what was sent, each send for as long as its window; nothing of it outlives the process. */
export class MemoryDuplicateStore implements DuplicateStore {
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  #nextSweep = 0;
  #reservations = 0;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  async reserve(key: string, contentHash: string, windowMs: number): Promise<Reservation> {
    const now = this.#clock.now();
    this.#sweep(now);
    const entry = this.#entries.get(key);
    if (!entry || hasExpired(entry, now)) {
      const token = `${++this.#reservations}`;
      this.#entries.set(key, { token, contentHash, windowMs });
      return { state: 'reserved', token };
    }
    if (entry.contentHash !== contentHash) return { state: 'conflict' };
    if (entry.receipt) return { state: 'sent', receipt: JSON.parse(entry.receipt) };
    return entry.doubt ? { state: 'in-doubt', error: entry.doubt } : { state: 'pending' };
  }

  /** Forgets what has expired; now and then only, because it looks at everything. */
  #sweep(now: number): void {
    if (now < this.#nextSweep) return;
    this.#nextSweep = now + sweepMs;
    for (const [key, entry] of this.#entries) if (hasExpired(entry, now)) this.#entries.delete(key);
  }

  async remember(key: string, token: string, receipt: SendReceipt): Promise<void> {
    this.#keep(key, token, { receipt: JSON.stringify(receipt) });
  }

  async keepDoubt(key: string, token: string, doubt: MailErrorJson): Promise<void> {
    this.#keep(key, token, { doubt });
  }

  #keep(key: string, token: string, outcome: Pick<Entry, 'receipt' | 'doubt'>): void {
    const entry = this.#entries.get(key);
    if (entry?.token !== token) return;
    Object.assign(entry, outcome, { expiresAt: this.#clock.now() + entry.windowMs });
  }

  async release(key: string, token: string): Promise<void> {
    if (this.#entries.get(key)?.token === token) this.#entries.delete(key);
  }
}
