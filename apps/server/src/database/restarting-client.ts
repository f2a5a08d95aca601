import { storageError } from './database.ts';
import { PgliteClient } from './pglite-client.ts';

/** The thread with the database, started again whenever it has ended: what was committed is in its files. */
export class RestartingClient {
  readonly #folder: string;
  readonly #longestMs: number | undefined;
  #client: PgliteClient;
  #starting: Promise<void> | undefined;
  #isClosed = false;

  /** @param longestMs how long a statement may take before the thread is taken for lost, in milliseconds. */
  constructor(folder: string, longestMs: number | undefined) {
    this.#folder = folder;
    this.#longestMs = longestMs;
    this.#client = new PgliteClient(folder, longestMs);
  }

  /**
   * The first start, which is not repeated when it fails.
   *
   * @returns whether what is committed survives a loss of power.
   */
  async start(): Promise<boolean> {
    try {
      return await this.#client.ready;
    } catch (error) {
      await this.#client.close();
      throw error;
    }
  }

  /** @throws MailError `STORAGE_UNAVAILABLE`: nothing has been asked. */
  async ready(): Promise<PgliteClient> {
    try {
      this.#assertOpen();
      if (this.#client.isGone) {
        this.#starting ??= this.#startAgain().finally(() => {
          this.#starting = undefined;
        });
      }
      await this.#starting;
      return this.#client;
    } catch (error) {
      throw storageError(error, { reached: false });
    }
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new Error('the database has been closed');
  }

  async #startAgain(): Promise<void> {
    // Not before it is out of its files, since two at once would destroy them.
    if (!(await this.#client.hasExited())) throw new Error('the embedded database does not end');
    this.#assertOpen();
    this.#client = new PgliteClient(this.#folder, this.#longestMs);
    await this.#client.ready;
  }

  /** Takes nothing more, and starts nothing again. */
  endTaking(): void {
    this.#isClosed = true;
  }

  async close(): Promise<void> {
    this.endTaking();
    await this.#starting?.catch(() => undefined);
    await this.#client.close();
  }
}
