import type { Clock } from '@flowpost/core';

/** Lets through so many a period and no more, in whatever period one counts; the others wait, first come, first served. */
export class RateLimit {
  readonly #count: number;
  readonly #periodMs: number;
  readonly #clock: Clock;
  /** When the last ones were let through, oldest first. */
  #times: number[] = [];
  readonly #waiting = new Set<() => void>();
  /** Ends the wait for the next turn, when nobody waits for it any more. */
  #pause: AbortController | undefined;

  constructor(count: number, periodMs: number, clock: Clock) {
    this.#count = count;
    this.#periodMs = periodMs;
    this.#clock = clock;
  }

  /** How many could have a turn now without waiting for it. */
  get left(): number {
    if (this.#waiting.size > 0 || this.#waitMs() > 0) return 0;
    // Those of a period that is over count no more.
    const since = this.#clock.now() - this.#periodMs;
    while ((this.#times[0] ?? Number.POSITIVE_INFINITY) <= since) this.#times.shift();
    return this.#count - this.#times.length;
  }

  /** Resolves when it is the caller's turn; rejects with the signal's reason. Who gives up has used no turn. */
  async turn(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#waiting.size === 0 && this.#waitMs() === 0) {
      this.#take();
      return;
    }
    const isFirst = this.#waiting.size === 0;
    await new Promise<void>((resolve, reject) => {
      const go = (): void => {
        signal?.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = (): void => {
        this.#waiting.delete(go);
        if (this.#waiting.size === 0) this.#pause?.abort();
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', giveUp, { once: true });
      this.#waiting.add(go);
      if (isFirst && !this.#pause) void this.#serve();
    });
  }

  async #serve(): Promise<void> {
    this.#pause = new AbortController();
    for (const go of this.#waiting) {
      for (let waitMs = this.#waitMs(); waitMs > 0; waitMs = this.#waitMs()) {
        const { signal } = this.#pause;
        await this.#clock.sleep(waitMs, signal).catch(() => undefined);
        if (!signal.aborted) continue;
        if (this.#waiting.size === 0) break;
        this.#pause = new AbortController();
      }
      if (!this.#waiting.delete(go)) continue;
      this.#take();
      go();
    }
    this.#pause = undefined;
  }

  #take(): void {
    this.#times.push(this.#clock.now());
    if (this.#times.length > this.#count) this.#times.shift();
  }

  /** How long until the next turn, in milliseconds. */
  #waitMs(): number {
    const now = this.#clock.now();
    const ahead = (this.#times.at(-1) ?? now) - now;
    // The clock was set back, which is no reason to wait for what it showed before.
    if (ahead > 0) this.#times = this.#times.map((time) => time - ahead);
    const [oldest = now] = this.#times;
    return this.#times.length < this.#count ? 0 : Math.max(0, oldest + this.#periodMs - now);
  }
}
