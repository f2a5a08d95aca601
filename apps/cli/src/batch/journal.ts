import { existsSync, statSync } from 'node:fs';
import { type FileHandle, open, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { lockPath, MailError, syncFolderOf } from '@flowpost/core';
import { UsageError } from '../command-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { say } from '../output.ts';
import { Appender } from './appender.ts';
import { bootId, intentLine, leavingLine, readEarlier, runLine } from './journal-lines.ts';
import type { RowMemory, RowState } from './row-memory.ts';

/** What a line of the results says of a row, beside which row and which run. Of several lines for a row the last one counts. */
export interface RowResult {
  readonly state: RowState;
  readonly [more: string]: unknown;
}

/** What cannot be written down must not be sent, and may be when there is room again. */
const unwritable = (path: string, cause: unknown): MailError => {
  const reason = (cause as NodeJS.ErrnoException).code ?? 'UNKNOWN';
  return new MailError('STORAGE_UNAVAILABLE', `${path} cannot be written (${reason}).`, {
    phase: 'envelope',
    retryable: true,
    hint: 'Make room on the disk and go on with --resume. To go on elsewhere, move this file and the one beside it (RESULTS and RESULTS.journal) there first.',
    details: { path, reason },
    cause,
  });
};

/** However a file is named, and whether it is there yet: one place for one batch. */
async function placeOf(given: string): Promise<string> {
  for (let path = given, links = 0; links < 40; links++) {
    const [real, link] = await Promise.all(
      [path, path].map((one, which) => (which ? readlink(one) : realpath(one)).catch(() => '')),
    );
    if (real) return real;
    if (!link) return join(await realpath(dirname(path)), basename(path));
    path = resolve(dirname(path), link);
  }
  return given;
}

/**
 * What a batch has done. `RESULTS` holds a line for each row that ended. `RESULTS.journal` holds two for each row that was sent: one
 * that it will be, flushed to the disk while the message waits for its turn, and one that it is leaving, written before its first
 * byte does. A row that was leaving and has no result from the same run or a later one is in doubt. When the machine itself has
 * stopped in between the second line may be lost, and the first one counts for it.
 */
export class BatchJournal implements AsyncDisposable {
  readonly #memory: RowMemory;
  /** What the last run was about to send when it ended. */
  readonly #wanted: RowMemory;
  readonly #run: number;
  readonly #files: readonly FileHandle[];
  readonly #begun: Appender;
  readonly #ended: Appender;
  readonly #unlock: () => void;
  readonly #path: string;
  readonly #intended = new Map<number, Promise<void>>();
  /** Of which it is written down that they are leaving. */
  readonly #leaving = new Set<number>();
  #failure: MailError | undefined;
  #isClosed = false;

  private constructor(
    path: string,
    { memory, intended }: { readonly memory: RowMemory; readonly intended: RowMemory },
    run: number,
    [results, journal]: readonly [FileHandle, FileHandle],
    unlock: () => void,
  ) {
    this.#path = path;
    this.#memory = memory;
    this.#wanted = intended;
    this.#run = run;
    this.#files = [results, journal];
    this.#ended = new Appender(results.fd);
    this.#begun = new Appender(journal.fd);
    this.#unlock = unlock;
  }

  /**
   * @param resume whether there may be an earlier run, to be gone on with.
   * @throws UsageError when there is one and it is not to be gone on with.
   * @throws MailError `FOLDER_IN_USE` when another process is at it; `FILE_UNREADABLE`.
   */
  static async open(given: string, resume: boolean): Promise<BatchJournal> {
    const path = await placeOf(given);
    const journalPath = `${path}.journal`;
    const unlock = await lockPath(path, {
      hint: 'It sends this batch. Wait for it, or stop it.',
      onLost() {
        // What is under way is in doubt for whoever has it now.
        say(
          'This process was stopped for so long that another one went on with the batch, so it ends.',
          'error',
        );
        process.exit(exitCodes['in-doubt']);
      },
    });
    try {
      const folder = [path, journalPath].find((one) => existsSync(one) && statSync(one).isDirectory());
      if (folder !== undefined) throw new UsageError(`${folder} is a folder. Give a file with --results.`);
      const before = [path, journalPath].find((one) => existsSync(one));
      if (before !== undefined && !resume) {
        throw new UsageError(
          `${before} is there from an earlier run. Go on with --resume, or give another file with --results.`,
        );
      }
      // Whoever restarts what was killed may be before its first row. Who has the wrong place should know before all get it again.
      if (before === undefined && resume)
        say(`There is no ${path} of an earlier run, so this one begins with the first row.`);
      // An earlier run that was killed while it made them has left an empty one.
      const isBegun = [path, journalPath].some((one) => existsSync(one) && statSync(one).size > 0);
      if (resume && isBegun && existsSync(path) !== existsSync(journalPath)) {
        const [there, gone] = existsSync(path) ? [path, journalPath] : [journalPath, path];
        throw new UsageError(
          `${there} is there and ${gone} is not, so nobody can tell who got it. Put both back.`,
        );
      }
      const { memory, latest, resultBytes, journalBytes, intended } = await readEarlier(path, journalPath);
      // A line of an earlier run must never count for more than one of this run.
      const next = latest + 1;
      const results = await open(path, 'a', 0o600);
      const journal = await open(journalPath, 'a', 0o600);
      await results.truncate(resultBytes);
      await journal.truncate(journalBytes);
      const opened = new BatchJournal(path, { memory, intended }, next, [results, journal], unlock);
      // First what earlier runs left, so that all that is read of them once this run has a line is on the disk.
      await opened.#listDoubtful();
      await results.datasync();
      await opened.#begun.appendAndFlush(runLine(next)).catch((error) => {
        throw unwritable(journalPath, error);
      });
      await syncFolderOf(path);
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
    await this.#ended.settled();
    if (this.#failure) throw this.#failure;
  }

  /**
   * How a row ended before.
   *
   * @throws MailError `INPUT_INVALID` when another row stands in its place now.
   */
  past(row: number, key: string): RowState | undefined {
    const state = this.#memory.state(row);
    if (state === 'begun') return undefined;
    // A row that was to be sent and was not is known all the same: that another one stands there now says that all have moved.
    const where = state === undefined ? this.#wanted : this.#memory;
    if (where.state(row) === undefined || where.key(row) === key) return state;
    throw new MailError('INPUT_INVALID', `Row ${row} is not the one it was in the earlier run.`, {
      hint: 'Resume with the rows the earlier run had, or start anew with --results and another file.',
      details: { row },
    });
  }

  /** How many rows ended so, before this run and in it. */
  count(state: RowState): number {
    return this.#memory.count(state);
  }

  /** Says that a row will be sent: while it waits for its turn, that is written. */
  intend(row: number, key: string): void {
    // Without a way to tell whether the machine has stopped, only what is flushed counts.
    const line = bootId === undefined ? '' : intentLine(row, key);
    const written = line === '' ? Promise.resolve() : this.#begun.appendAndFlush(line);
    written.catch(() => undefined);
    this.#intended.set(row, written);
  }

  /** Resolves when it is written down that the row's message is about to leave. */
  async begin(row: number, key: string): Promise<void> {
    // How it ends could not be written down.
    if (this.#failure) throw this.#failure;
    try {
      await this.#intended.get(row);
      const line = leavingLine(row, key);
      await (bootId === undefined ? this.#begun.appendAndFlush(line) : this.#begun.append(line));
      this.#leaving.add(row);
    } catch (error) {
      throw unwritable(`${this.#path}.journal`, error);
    }
  }

  /** Whether this run was at the row already. */
  isOfThisRun(row: number): boolean {
    return this.#memory.run(row) === this.#run;
  }

  /**
   * Writes down how a row ended.
   *
   * @returns the state it has now. What was in doubt before stays so until it was sent, whatever became of another attempt.
   */
  end(row: number, key: string, result: RowResult): RowState {
    this.#intended.delete(row);
    const isDoubtful = this.#memory.state(row) === 'in-doubt' && !this.isOfThisRun(row);
    const isSent = result.state === 'sent' || result.state === 'partial';
    const state = isDoubtful && !isSent ? 'in-doubt' : result.state;
    this.#write(row, key, this.#run, { ...result, state });
    return state;
  }

  /** What could not be written down. */
  get failure(): MailError | undefined {
    return this.#failure;
  }

  #write(row: number, key: string, run: number, { state, ...more }: RowResult): void {
    this.#memory.set(row, key, run, state);
    const wasLeaving = this.#leaving.delete(row);
    this.#ended.append(`${JSON.stringify({ row, key, run, state, ...more })}\n`).catch((error) => {
      this.#failure ??= unwritable(this.#path, error);
      // So whoever resumes will find it.
      this.#memory.set(row, key, run, wasLeaving ? 'in-doubt' : 'deferred');
    });
  }

  /**
   * Writes what is left to be written, and gives the files back.
   *
   * @returns what could not be written.
   */
  async close(): Promise<MailError | undefined> {
    if (this.#isClosed) return this.#failure;
    this.#isClosed = true;
    await this.#ended.settled();
    for (const file of this.#files) {
      await file.datasync().catch((error) => {
        this.#failure ??= unwritable(this.#path, error);
      });
      await file.close();
    }
    this.#unlock();
    return this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
