import type { FileHandle } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';

interface Batch {
  readonly lines: string[];
  readonly done: PromiseWithResolvers<void>;
}

/** Writes lines to the end of a file. Whoever comes while the disk is at work shares the next turn with the others. */
export class Appender {
  readonly #file: FileHandle;
  readonly #flushes: boolean;
  #next: Batch | undefined;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;

  /** @param flushes whether a line counts as written only when it would survive a power failure. */
  constructor(file: FileHandle, flushes: boolean) {
    this.#file = file;
    this.#flushes = flushes;
  }

  append(line: string): Promise<void> {
    this.#next ??= { lines: [], done: Promise.withResolvers() };
    this.#next.lines.push(line);
    const { promise } = this.#next.done;
    if (!this.#isRunning) this.#running = this.#run();
    return promise;
  }

  /** Resolves when everything is written, or failed to be. */
  async flushed(): Promise<void> {
    while (this.#isRunning) await this.#running;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    await nextTurn();
    for (let batch = this.#next; batch; batch = this.#next) {
      this.#next = undefined;
      try {
        await this.#file.appendFile(batch.lines.join(''));
        if (this.#flushes) await this.#file.datasync();
        batch.done.resolve();
      } catch (error) {
        batch.done.reject(error);
      }
    }
    this.#isRunning = false;
  }
}
