import type { Clock } from '@flowpost/core';

interface Waiter {
  readonly go: () => void;
  readonly refuse: (reason: unknown) => void;
}

/** A turn that was had longer ago than this, in milliseconds, was not used when it was had. */
const freshMs = 1_000;

/** Lets through so many a period and no more, in whatever period one counts; the others wait, first come, first served. */
export class RateLimit {
  readonly #count: number;
  readonly #periodMs: number;
  readonly #clock: Clock;
  /** When the last ones were let through, oldest first. */
  readonly #times: number[] = [];
  readonly #waiting = new Set<Waiter>();
  /** Those who had a turn and could not use it when they had it. */
  readonly #late = new Set<Waiter>();
  /** Ends the wait for the next turn, when nobody waits for it any more. */
  #pause: AbortController | undefined;
  #isServing = false;

  constructor(count: number, periodMs: number, clock: Clock) {
    this.#count = count;
    this.#periodMs = periodMs;
    this.#clock = clock;
  }

  /** How many could have a turn now without waiting for it. */
  get left(): number {
    if (this.#next || this.#waitMs() > 0) return 0;
    // Those of a period that is over count no more.
    const since = this.#clock.monotonic() - this.#periodMs;
    while ((this.#times[0] ?? Number.POSITIVE_INFINITY) <= since) this.#times.shift();
    return this.#count - this.#times.length;
  }

  /**
   * Resolves when it is the caller's turn; rejects with the signal's reason. Who gives up has used no turn.
   *
   * @returns when it was.
   */
  turn(signal?: AbortSignal): Promise<number> {
    return this.#turn(signal, this.#waiting);
  }

  /**
   * What kept who had a turn may have kept others as well, whose turns would be used together now. So whoever is late has another turn
   * instead, before all who wait.
   *
   * @param at when he had his.
   * @returns when the turn was that counts.
   */
  async late(at: number, signal?: AbortSignal): Promise<number> {
    if (this.#clock.monotonic() - at < freshMs) return at;
    const unused = this.#times.indexOf(at);
    if (unused >= 0) this.#times.splice(unused, 1);
    return this.#turn(signal, this.#late);
  }

  async #turn(signal: AbortSignal | undefined, line: Set<Waiter>): Promise<number> {
    signal?.throwIfAborted();
    const isFirst = line.size === 0 && (line === this.#late || !this.#next);
    if (isFirst && this.#waitMs() === 0) return this.#take();
    return new Promise<number>((resolve, reject) => {
      const settle = (): void => {
        line.delete(one);
        signal?.removeEventListener('abort', giveUp);
      };
      const one: Waiter = {
        go: () => {
          settle();
          resolve(this.#take());
        },
        refuse: (reason) => {
          settle();
          reject(reason);
        },
      };
      const giveUp = (): void => {
        one.refuse(signal?.reason);
        if (!this.#next) this.#pause?.abort();
      };
      signal?.addEventListener('abort', giveUp, { once: true });
      line.add(one);
      if (!this.#isServing) void this.#serve();
    });
  }

  /** Whose turn is next. */
  get #next(): Waiter | undefined {
    const [first] = this.#late.size > 0 ? this.#late : this.#waiting;
    return first;
  }

  /** Sends everybody away who waits for his turn, each with a reason of his own; not who had one before. */
  refuseWaiting(reason: () => unknown): void {
    for (const { refuse } of [...this.#waiting]) refuse(reason());
    if (!this.#next) this.#pause?.abort();
  }

  async #serve(): Promise<void> {
    this.#isServing = true;
    while (this.#next) {
      const waitMs = this.#waitMs();
      if (waitMs > 0) {
        this.#pause = new AbortController();
        await this.#clock.sleep(waitMs, this.#pause.signal).catch(() => undefined);
        continue;
      }
      this.#next.go();
    }
    this.#isServing = false;
  }

  #take(): number {
    const now = this.#clock.monotonic();
    this.#times.push(now);
    if (this.#times.length > this.#count) this.#times.shift();
    return now;
  }

  /** How long until the next turn, in milliseconds. */
  #waitMs(): number {
    const now = this.#clock.monotonic();
    const [oldest = now] = this.#times;
    return this.#times.length < this.#count ? 0 : Math.max(0, oldest + this.#periodMs - now);
  }
}
