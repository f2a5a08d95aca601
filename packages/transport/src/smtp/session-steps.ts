import type { Socket } from 'node:net';

const standstillCheckMs = 1_000;

/**
 * Waits for one step of a session after another. A step ends by its callback, by a failure of the connection, by
 * its time limit or by a signal, whichever comes first; the last two cut the connection.
 */
export class SessionSteps {
  readonly #cut: () => void;
  #fail: ((cause: unknown) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #limitMs: number | undefined;

  constructor(cut: () => void) {
    this.#cut = cut;
  }

  /**
   * Runs a step. There is at most one at a time.
   *
   * @param describe makes the error for whatever the library, the socket or the signal reports.
   */
  run<Result>(
    signal: AbortSignal | undefined,
    describe: (cause: unknown) => unknown,
    start: (done: (error?: unknown, result?: Result) => void) => void,
  ): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const end = (settle: () => void): void => {
        if (this.#fail !== fail) return;
        this.#fail = undefined;
        clearTimeout(this.#timer);
        signal?.removeEventListener('abort', onAbort);
        settle();
      };
      const fail = (cause: unknown): void => end(() => reject(describe(cause)));
      const onAbort = (): void => {
        // The reason is the caller's and may be anything; that there is one is all that counts here.
        fail(new Error('aborted'));
        this.#cut();
      };
      this.#fail = fail;
      signal?.addEventListener('abort', onAbort);
      if (signal?.aborted) onAbort();
      else start((error, result) => (error ? fail(error) : end(() => resolve(result as Result))));
    });
  }

  /** Fails the current step; without one, nothing happens. */
  fail(cause: unknown): void {
    this.#fail?.(cause);
  }

  /** Starts the time limit of the current step. */
  limit(ms: number): void {
    this.#limitMs = ms;
    this.#startTimer(ms, () => this.#timeOut());
  }

  /** The other side did something, so its time starts anew. */
  progress(): void {
    if (this.#limitMs !== undefined) this.limit(this.#limitMs);
  }

  /** Limits how long a socket may take to send nothing of what waits to be sent. */
  limitStandstill(ms: number, socket: Socket): void {
    const sent = (): number => socket.bytesWritten - socket.writableLength;
    this.#limitMs = undefined;
    const interval = Math.min(ms, standstillCheckMs);
    let before = sent();
    let quietMs = 0;
    const check = (): void => {
      quietMs = sent() === before ? quietMs + interval : 0;
      before = sent();
      if (quietMs >= ms) this.#timeOut();
      else this.#startTimer(interval, check);
    };
    this.#startTimer(interval, check);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #startTimer(ms: number, onTimeout: () => void): void {
    clearTimeout(this.#timer);
    if (this.#fail) this.#timer = setTimeout(onTimeout, ms);
  }

  #timeOut(): void {
    this.fail(Object.assign(new Error('time limit'), { code: 'ETIMEDOUT' }));
    this.#cut();
  }
}
