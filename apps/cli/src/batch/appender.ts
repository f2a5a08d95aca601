import { fdatasync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';

type Waiting = PromiseWithResolvers<void>;

const flush = promisify(fdatasync);
const settle = (all: readonly Waiting[], failure: { readonly error: unknown } | undefined): void => {
  for (const { resolve, reject } of all) {
    if (failure) reject(failure.error);
    else resolve();
  }
};

/** Writes lines to the end of a file. Those that come in the same turn share a write, and those that wait for the disk a flush. */
export class Appender {
  readonly #fd: number;
  #lines: string[] = [];
  /** Who waits for a write, and who for a flush after it. */
  #toWrite: Waiting[] = [];
  #toFlush: Waiting[] = [];
  /** Who waits for the next flush, his line being written. */
  #unflushed: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #flushing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param fd of a file opened for appending. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Resolves when the system has the line: it survives the end of this process. */
  append(line: string): Promise<void> {
    return this.#put(line, this.#toWrite);
  }

  /** Resolves when the line is on the disk, with all before it: it survives the end of the machine. */
  appendAndFlush(line: string): Promise<void> {
    return this.#put(line, this.#toFlush);
  }

  /** Resolves when everything is written, or failed to be. */
  async settled(): Promise<void> {
    while (this.#writing ?? this.#flushing) await (this.#writing ?? this.#flushing);
  }

  #put(line: string, waiting: Waiting[]): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#lines.push(line);
    waiting.push(done);
    this.#writing ??= this.#write();
    return done.promise;
  }

  async #write(): Promise<void> {
    await nextTurn();
    this.#writing = undefined;
    const lines = this.#lines.splice(0);
    const [written, flushed] = [this.#toWrite, this.#toFlush];
    [this.#toWrite, this.#toFlush] = [[], []];
    // Half a line may be there, and nothing may come behind it: whoever reads the file takes it for broken off.
    if (!this.#failure) this.#handOver(lines.join(''));
    settle(written, this.#failure);
    if (flushed.length === 0) return;
    this.#unflushed.push(...flushed);
    this.#flushing ??= this.#flush();
  }

  /** Whoever comes while the disk is at work shares its next turn with the others. */
  async #flush(): Promise<void> {
    while (this.#unflushed.length > 0) {
      const waiting = this.#unflushed.splice(0);
      await flush(this.#fd).catch((error) => {
        this.#failure ??= { error };
      });
      settle(waiting, this.#failure);
    }
    this.#flushing = undefined;
  }

  /** To hand lines to the system takes less time than to have it done elsewhere; only the disk is waited for. */
  #handOver(text: string): void {
    try {
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      this.#failure = { error };
    }
  }
}
