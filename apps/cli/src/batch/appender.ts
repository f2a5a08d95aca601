import { fdatasync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';

interface Batch {
  readonly lines: string[];
  readonly done: PromiseWithResolvers<void>;
}

const flush = promisify(fdatasync);

/** Writes lines to the end of a file. Whoever comes while the disk is at work shares the next turn with the others. */
export class Appender {
  readonly #fd: number;
  readonly #flushes: boolean;
  #next: Batch | undefined;
  #running: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param fd of a file opened for appending.
   * @param flushes whether a line counts as written only when it would survive a power failure.
   */
  constructor(fd: number, flushes: boolean) {
    this.#fd = fd;
    this.#flushes = flushes;
  }

  append(line: string): Promise<void> {
    this.#next ??= { lines: [], done: Promise.withResolvers() };
    this.#next.lines.push(line);
    const { promise } = this.#next.done;
    this.#running ??= this.#run();
    return promise;
  }

  /**
   * Hands a line to the system at once. It survives the end of this process, and that of the machine when a later line is flushed.
   *
   * @throws Error as the system has it.
   */
  writeNow(line: string): void {
    // Half a line may be there, and nothing may come behind it: whoever reads the file takes it for broken off.
    if (this.#failure) throw this.#failure.error;
    try {
      const bytes = Buffer.from(line);
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /** Resolves when everything is written, or failed to be. */
  async flushed(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    await nextTurn();
    for (let batch = this.#next; batch; batch = this.#next) {
      this.#next = undefined;
      try {
        // To hand lines to the system takes less time than to have it done elsewhere; only the disk is waited for.
        this.writeNow(batch.lines.join(''));
        if (this.#flushes) await flush(this.#fd);
        batch.done.resolve();
      } catch (error) {
        this.#failure ??= { error };
        batch.done.reject(error);
      }
    }
    this.#running = undefined;
  }
}
