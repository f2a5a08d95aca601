import { randomUUID } from 'node:crypto';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MailError } from '@flowpost/core';
import { lockPath } from '@flowpost/node-adapter';
import { UsageError } from '../command-line.ts';
import { Appender } from './appender.ts';
import { RowMemory, type RowState, states } from './row-memory.ts';

/** What a line of the results says of a row, beside which row and which run. Of several lines for a row the last one counts. */
export interface RowResult {
  readonly state: RowState;
  readonly [more: string]: unknown;
}

/**
 * Hands over the lines of a file. What a crash broke off at its end is none.
 *
 * @param own what a beginning of a line of ours looks like.
 * @returns how many bytes are whole lines.
 * @throws MailError `FILE_UNREADABLE` when it ends in what never was a line of ours.
 */
async function readLines(path: string, own: RegExp, take: (line: string) => void): Promise<number> {
  if (!existsSync(path)) return 0;
  let whole = 0;
  let pending = '';
  // One character a byte, so that lines can be counted in bytes. A power failure may leave zeros where nothing was written yet.
  const written = (text: string): string => text.replaceAll('\0', '');
  for await (const chunk of createReadStream(path, 'latin1')) {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      whole += line.length + 1;
      take(written(line));
    }
  }
  const left = written(pending);
  if (left !== '' && !own.test(left)) throw damaged(path, left);
  return whole;
}

/** A file that was made is there after a power failure when its folder is written as well. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), 'r').catch(() => undefined);
  // Not everywhere can a folder be opened.
  await folder?.sync().catch(() => undefined);
  await folder?.close();
}

const damaged = (path: string, line: string): MailError =>
  new MailError(
    'FILE_UNREADABLE',
    `${path} holds a line that is none of a batch: ${JSON.stringify(line.slice(0, 60))}.`,
    {
      hint: 'Give --results the file the earlier run wrote, unchanged.',
      details: { path },
    },
  );

/** What cannot be written down must not be sent, and may be when there is room again. */
const unwritable = (path: string, cause: unknown): MailError => {
  const reason = (cause as NodeJS.ErrnoException).code ?? 'UNKNOWN';
  return new MailError('STORAGE_UNAVAILABLE', `${path} cannot be written (${reason}).`, {
    phase: 'envelope',
    retryable: true,
    hint: 'Make room on the disk, or give --results a place that can be written to, and go on with --resume.',
    details: { path, reason },
    cause,
  });
};

/**
 * What a batch has done: `RESULTS` holds a line for each row that ended, `RESULTS.journal` one for each row whose message was about
 * to leave, written and flushed before its first byte did. A row that is in the journal and has no result from the same run or a
 * later one is in doubt.
 */
export class BatchJournal implements AsyncDisposable {
  readonly #memory: RowMemory;
  readonly #run: number;
  readonly #files: readonly FileHandle[];
  readonly #begun: Appender;
  readonly #ended: Appender;
  readonly #unlock: () => void;
  readonly #path: string;
  #failure: MailError | undefined;
  #isTold = false;
  #isClosed = false;

  private constructor(
    path: string,
    memory: RowMemory,
    run: number,
    [results, journal]: readonly [FileHandle, FileHandle],
    unlock: () => void,
  ) {
    this.#path = path;
    this.#memory = memory;
    this.#run = run;
    this.#files = [results, journal];
    this.#ended = new Appender(results.fd, false);
    this.#begun = new Appender(journal.fd, true);
    this.#unlock = unlock;
  }

  /**
   * @param resume whether there may be an earlier run, to be gone on with.
   * @throws UsageError when there is one and it is not to be gone on with.
   * @throws MailError `FOLDER_IN_USE` when another process is at it; `FILE_UNREADABLE`.
   */
  static async open(given: string, resume: boolean): Promise<BatchJournal> {
    // However it is named, it is the same batch.
    const path = await realpath(given).catch(() => given);
    const journalPath = `${path}.journal`;
    const unlock = await lockPath(path, 'It sends this batch. Wait for it, or stop it.');
    try {
      const before = [path, journalPath].find((one) => existsSync(one));
      if (before !== undefined && !resume) {
        throw new UsageError(
          `${before} is there from an earlier run. Go on with --resume, or give another file with --results.`,
        );
      }
      // An earlier run that was killed while it made them has left an empty one.
      const isBegun = [path, journalPath].some((one) => existsSync(one) && statSync(one).size > 0);
      if (resume && isBegun && existsSync(path) !== existsSync(journalPath)) {
        const [there, gone] = existsSync(path) ? [path, journalPath] : [journalPath, path];
        throw new UsageError(
          `${there} is there and ${gone} is not, so nobody can tell who got it. Put both back.`,
        );
      }
      const memory = new RowMemory();
      let run = 0;
      let latest = 0;
      const ownJournal = /^(?:\d+(?: \S*)?|r(?:u(?:n(?: .*)?)?)?)$/;
      const journalBytes = await readLines(journalPath, ownJournal, (line) => {
        const [, row, key, start] = /^(?:(\d+) (\S{8})|run (\d+) \S+)$/.exec(line) ?? [];
        if (start !== undefined) run = Number(start);
        else if (key !== undefined) memory.set(Number(row), key, run, 'begun');
        else throw damaged(journalPath, line);
      });
      latest = run;
      const resultBytes = await readLines(path, /^\{(?:$|"(?:$|r(?:$|o(?:$|w(?:$|"(?:$|:))))))/, (line) => {
        // The fields that count stand first, so that a million lines need not be parsed.
        const [, row, key, of, state] =
          /^\{"row":(\d+),"key":"([\w-]{8})","run":(\d+),"state":"([a-z-]+)"/.exec(line) ?? [];
        const known = states.find((one) => one === state);
        if (key === undefined || known === undefined) throw damaged(path, line);
        latest = Math.max(latest, Number(of));
        if (Number(of) >= memory.run(Number(row))) memory.set(Number(row), key, Number(of), known);
      });
      // A line of an earlier run must never count for more than one of this run.
      const next = latest + 1;
      const results = await open(path, 'a', 0o600);
      const journal = await open(journalPath, 'a', 0o600);
      await results.truncate(resultBytes);
      await journal.truncate(journalBytes);
      const opened = new BatchJournal(path, memory, next, [results, journal], unlock);
      await opened.#begun.append(`run ${next} ${randomUUID()}\n`).catch((error) => {
        throw unwritable(journalPath, error);
      });
      await syncFolder(path);
      await opened.#listDoubtful();
      return opened;
    } catch (error) {
      unlock();
      throw error;
    }
  }

  /** What was about to leave when an earlier run ended: that run's result, written down by this one. */
  async #listDoubtful(): Promise<void> {
    const message = 'An earlier run ended while the message was being sent; the server may have it.';
    for (let row = 1; row <= this.#memory.highest; row++) {
      if (this.#memory.state(row) !== 'begun') continue;
      this.#write(row, this.#memory.key(row), this.#memory.run(row), {
        state: 'in-doubt',
        error: { message },
      });
    }
    await this.#ended.flushed();
    this.#tell();
  }

  /** Once, to whoever asks first. */
  #tell(): void {
    if (!this.#failure || this.#isTold) return;
    this.#isTold = true;
    throw this.#failure;
  }

  /**
   * How a row ended before.
   *
   * @throws MailError `INPUT_INVALID` when another row stands in its place now.
   */
  past(row: number, key: string): RowState | undefined {
    const state = this.#memory.state(row);
    if (state === undefined || state === 'begun') return undefined;
    if (this.#memory.key(row) === key) return state;
    throw new MailError('INPUT_INVALID', `Row ${row} is not the one it was in the earlier run.`, {
      hint: 'Resume with the rows the earlier run had, or start anew with --results and another file.',
      details: { row },
    });
  }

  /** How many rows ended so, before this run and in it. */
  count(state: RowState): number {
    return this.#memory.count(state);
  }

  /** Resolves when it is on the disk that the row's message is about to leave. */
  begin(row: number, key: string): Promise<void> {
    return this.#begun.append(`${row} ${key}\n`).catch((error) => {
      throw unwritable(`${this.#path}.journal`, error);
    });
  }

  /** Whether this run was at the row already. */
  isOfThisRun(row: number): boolean {
    return this.#memory.run(row) === this.#run;
  }

  /**
   * Writes down how a row ended.
   *
   * @throws MailError `STORAGE_UNAVAILABLE` when an earlier line could not be written.
   */
  end(row: number, key: string, result: RowResult): void {
    this.#tell();
    this.#write(row, key, this.#run, result);
  }

  #write(row: number, key: string, run: number, { state, ...more }: RowResult): void {
    this.#memory.set(row, key, run, state);
    this.#ended.append(`${JSON.stringify({ row, key, run, state, ...more })}\n`).catch((error) => {
      this.#failure ??= unwritable(this.#path, error);
    });
  }

  /**
   * Writes what is left to be written, and gives the files back.
   *
   * @returns what could not be written.
   */
  async close(): Promise<MailError | undefined> {
    if (this.#isClosed) return undefined;
    this.#isClosed = true;
    await this.#ended.flushed();
    for (const file of this.#files) {
      await file.datasync().catch((error) => {
        this.#failure ??= unwritable(this.#path, error);
      });
      await file.close();
    }
    this.#unlock();
    return this.#isTold ? undefined : this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
