import { once } from 'node:events';
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

/** The thread that has the embedded database, seen from here. Once gone it stays so. */
export class PgliteClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown[]>>();
  readonly #watch: NodeJS.Timeout;
  readonly #longestMs: number;
  /** How long it may be silent now: starting is no statement, and takes what the machine takes. */
  #patienceMs = defaultLongestMs;
  #ids = 0;
  /** Since when it has been at what it is at. */
  #since = Date.now();
  #gone: Error | undefined;

  private constructor(folder: string, longestMs: number) {
    this.#longestMs = longestMs;
    this.#worker = new Worker(new URL('./pglite-thread.ts', import.meta.url), { workerData: folder });
    this.#worker.on('error', (error) => this.#end(error));
    this.#worker.on('exit', () => this.#end(new Error('the embedded database has ended')));
    this.#watch = setInterval(() => this.#look(), longestMs / 10);
    this.#watch.unref();
  }

  /**
   * Starts the thread.
   *
   * @param longestMs how long it may be at one statement, in milliseconds. After that it is at none (a full disk makes it compute
   * without end) and is ended. Default a minute.
   * @throws Error as the database, or what keeps it from starting, has it.
   */
  static async open(
    folder: string,
    longestMs = defaultLongestMs,
  ): Promise<{ client: PgliteClient; survivesPowerLoss: boolean }> {
    const client = new PgliteClient(folder, longestMs);
    const started = Promise.withResolvers<unknown[]>();
    client.#waiting.set(-1, started);
    client.#worker.once('message', (ready: { readonly survivesPowerLoss: boolean }) => {
      client.#waiting.delete(-1);
      client.#patienceMs = client.#longestMs;
      client.#worker.on('message', (response: ThreadResponse) => client.#take(response));
      started.resolve([ready]);
    });
    const [{ survivesPowerLoss }] = (await started.promise) as [{ readonly survivesPowerLoss: boolean }];
    return { client, survivesPowerLoss };
  }

  get isGone(): boolean {
    return this.#gone !== undefined;
  }

  run(text: string, values?: readonly unknown[]): Promise<unknown[]> {
    if (this.#gone) return Promise.reject(this.#gone);
    if (this.#waiting.size === 0) this.#since = Date.now();
    const id = this.#ids++;
    const answer = Promise.withResolvers<unknown[]>();
    this.#waiting.set(id, answer);
    this.#worker.postMessage({ id, text, values } satisfies ThreadRequest);
    return answer.promise;
  }

  async close(): Promise<void> {
    if (this.#gone) return;
    const exited = once(this.#worker, 'exit');
    this.#worker.postMessage('close');
    await exited;
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
    if (this.#waiting.size === 0 || Date.now() - this.#since < this.#patienceMs) return;
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
