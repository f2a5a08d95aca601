import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

export interface ThreadError {
  readonly message: string;
  readonly code?: string;
}

/** A statement for the thread, and what comes back. */
export interface ThreadRequest {
  readonly id: number;
  readonly text: string;
  readonly values?: readonly unknown[] | undefined;
}
export type ThreadResponse =
  | { readonly survivesPowerLoss: boolean }
  | { readonly id: number; readonly rows: unknown[] }
  | { readonly id: number; readonly error: ThreadError };

/** Longer than any statement takes, in milliseconds. */
const defaultLongestMs = 60_000;
/** How long it may take to start, in milliseconds: as long as there was written ahead, and as the machine takes. */
const longestStartMs = 600_000;
/** How long a thread may take to end that was told to, in milliseconds. One that waits for the disk ends when the disk has answered. */
const longestEndMs = 5_000;

/** The thread that has the embedded database, seen from here. Once gone it stays so. */
export class PgliteClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown[]>>();
  readonly #exited: Promise<unknown>;
  readonly #watch: NodeJS.Timeout;
  readonly #longestMs: number;
  /** How long it may be silent now. */
  #patienceMs = longestStartMs;
  #ids = 0;
  /** Since when it has been at what it is at, and when that was last looked at. */
  #since = Date.now();
  #looked = Date.now();
  #gone: Error | undefined;
  #hasExited = false;
  #isLate = false;

  /** Resolves when it takes statements: whether what it commits survives a power failure. Rejects with what keeps it from starting. */
  readonly ready: Promise<boolean>;

  /**
   * Starts the thread.
   *
   * @param longestMs how long it may be at one statement, in milliseconds. After that it is at none (a full disk makes it compute
   * without end) and is ended. Default a minute.
   */
  constructor(folder: string, longestMs = defaultLongestMs) {
    this.#longestMs = longestMs;
    // As V8 frees WebAssembly code that a better one has taken the place of, it now and then ends the process (nodejs/node#64500:
    // "Check failed: jit_page_->allocations_.erase"). Kept, that is a few megabytes.
    setFlagsFromString('--no-wasm-code-gc');
    this.#worker = new Worker(new URL('./pglite-thread.ts', import.meta.url), { workerData: folder });
    this.#worker.on('error', (error) => this.#end(error));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#end(new Error('the embedded database has ended'));
        this.#hasExited = true;
        resolve('exited');
      });
    });
    this.#watch = setInterval(() => this.#look(), longestMs / 10);
    this.#watch.unref();
    const started = Promise.withResolvers<unknown[]>();
    this.#waiting.set(-1, started);
    this.#worker.once('message', ({ survivesPowerLoss }: { readonly survivesPowerLoss: boolean }) => {
      this.#waiting.delete(-1);
      this.#patienceMs = longestMs;
      this.#worker.on('message', (response: ThreadResponse) => this.#take(response));
      started.resolve([survivesPowerLoss]);
    });
    this.ready = started.promise.then(([survives]) => survives === true);
    this.ready.catch(() => undefined);
  }

  get isGone(): boolean {
    return this.#gone !== undefined;
  }

  run(text: string, values?: readonly unknown[]): Promise<unknown[]> {
    if (this.#gone) return Promise.reject(this.#gone);
    if (this.#waiting.size === 0) this.#since = Date.now();
    const id = this.#ids++;
    return this.#ask(id, { id, text, values });
  }

  /**
   * Statements may take as long as a start may, until this is undone.
   *
   * @returns undoes it.
   */
  bePatient(): () => void {
    this.#patienceMs = longestStartMs;
    return () => {
      this.#patienceMs = this.#longestMs;
    };
  }

  /** Ends the thread, in good order when that does not take longer than a statement may. */
  async close(): Promise<void> {
    if (!this.#gone) {
      this.#since = Date.now();
      await this.#ask(this.#ids++, 'close').catch(() => undefined);
    }
    await this.hasExited();
  }

  /** Whether the thread has ended and so nobody is at the files any more. Waits for that a moment, once. */
  async hasExited(): Promise<boolean> {
    if (this.#isLate) return this.#hasExited;
    const late = new AbortController();
    const end = delay(longestEndMs, 'late', { signal: late.signal }).catch(() => 'late');
    const first = await Promise.race([this.#exited, end]);
    late.abort();
    this.#isLate = first === 'late';
    return first === 'exited';
  }

  #ask(id: number, request: ThreadRequest | 'close'): Promise<unknown[]> {
    // Before it is waited for: what cannot be handed over throws.
    this.#worker.postMessage(request);
    const answer = Promise.withResolvers<unknown[]>();
    this.#waiting.set(id, answer);
    return answer.promise;
  }

  #take(response: ThreadResponse): void {
    if (!('id' in response)) return;
    this.#since = Date.now();
    const waiting = this.#waiting.get(response.id);
    this.#waiting.delete(response.id);
    if ('rows' in response) waiting?.resolve(response.rows);
    else waiting?.reject(Object.assign(new Error(response.error.message), { code: response.error.code }));
  }

  #look(): void {
    const now = Date.now();
    const every = this.#longestMs / 10;
    // This process was stopped, or computed without end itself, and so was or did whoever it would blame.
    // And the clock may have been set back.
    if (now - this.#looked > 2 * every || now < this.#since) this.#since = now;
    this.#looked = now;
    if (this.#waiting.size === 0 || now - this.#since < this.#patienceMs) return;
    this.#end(new Error('the embedded database does not answer'));
    void this.#worker.terminate();
  }

  #end(error: Error): void {
    clearInterval(this.#watch);
    this.#gone ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#gone);
    this.#waiting.clear();
  }
}
