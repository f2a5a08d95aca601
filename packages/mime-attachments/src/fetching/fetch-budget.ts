import { longestTimerMs } from '@flowpost/core';

/**
 * The time one fetch may spend waiting for the server, all waits together. While the content waits for its reader (a
 * mail server that takes its time), the clock stands still.
 */
export class FetchBudget {
  readonly #stop = new AbortController();
  #leftMs: number;
  #since = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    this.#leftMs = ms;
  }

  /** Aborted when the time is used up. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  start(): void {
    this.pause();
    this.#since = performance.now();
    this.#timer = setTimeout(() => this.#stop.abort(), Math.min(this.#leftMs, longestTimerMs));
  }

  pause(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#leftMs = Math.max(0, this.#leftMs - (performance.now() - this.#since));
  }
}
