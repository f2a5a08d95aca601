import type { Clock } from '@flowpost/core';

/** Lets through so many a period and no more, in whatever period one counts; the others wait their turn. */
export class RateLimit {
  readonly #count: number;
  readonly #periodMs: number;
  readonly #clock: Clock;
  /** When the last ones were let through, or will be, oldest first. */
  readonly #times: number[] = [];

  constructor(count: number, periodMs: number, clock: Clock) {
    this.#count = count;
    this.#periodMs = periodMs;
    this.#clock = clock;
  }

  /** Resolves when it is the caller's turn; rejects with the signal's reason. A turn given up is not used by others. */
  async turn(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const now = this.#clock.now();
    const oldest = this.#times.length < this.#count ? undefined : this.#times.shift();
    const at = oldest === undefined ? now : Math.max(now, oldest + this.#periodMs);
    this.#times.push(at);
    if (at > now) await this.#clock.sleep(at - now, signal);
  }
}
