import { hash, randomUUID } from 'node:crypto';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { MailError } from '@flowpost/core';
import { UsageError } from '../command-line.ts';
import { Appender } from './appender.ts';
import { lockFile } from './lock-file.ts';
import type { Row } from './rows.ts';

/** How a row ended. `deferred` was not sent and may succeed later; `in-doubt` may have been sent. */
export type RowState = 'sent' | 'partial' | 'failed' | 'deferred' | 'in-doubt';
const states: readonly (RowState | 'begun')[] = [
  'begun',
  'sent',
  'partial',
  'failed',
  'deferred',
  'in-doubt',
];

/** What a line of the results says of a row, beside which row and which run. Of several lines for a row the last one counts. */
export interface RowResult {
  readonly state: RowState;
  readonly [more: string]: unknown;
}

const keyLength = 8;
/** Tells the rows of one file apart; no more is needed. */
export const keyOf = (row: Row): string =>
  hash('sha256', JSON.stringify(row), 'base64url').slice(0, keyLength);

/** What became of each row in which run, in a few bytes a row, so that there may be millions. */
class RowMemory {
  #states = new Uint8Array(1_024);
  #runs = new Uint16Array(1_024);
  #keys = Buffer.alloc(keyLength * 1_024);
  highest = 0;

  #grow(row: number): void {
    const size = Math.max(row + 1, this.#states.length * 2);
    const [oldStates, oldRuns, oldKeys] = [this.#states, this.#runs, this.#keys];
    this.#states = new Uint8Array(size);
    this.#states.set(oldStates);
    this.#runs = new Uint16Array(size);
    this.#runs.set(oldRuns);
    this.#keys = Buffer.alloc(size * keyLength);
    oldKeys.copy(this.#keys);
  }

  set(row: number, key: string, run: number, state: RowState | 'begun'): void {
    if (row >= this.#states.length) this.#grow(row);
    this.#states[row] = states.indexOf(state) + 1;
    this.#runs[row] = run;
    this.#keys.write(key.padEnd(keyLength), row * keyLength, 'latin1');
    this.highest = Math.max(this.highest, row);
  }

  state(row: number): RowState | 'begun' | undefined {
    return states[(this.#states[row] ?? 0) - 1];
  }

  run(row: number): number {
    return this.#runs[row] ?? 0;
  }

  key(row: number): string {
    return this.#keys.toString('latin1', row * keyLength, (row + 1) * keyLength);
  }
}

/** Hands over the lines of a file up to the last whole one; what a crash broke off is not one. @returns their bytes. */
async function readLines(path: string, take: (line: string) => void): Promise<number> {
  if (!existsSync(path)) return 0;
  let whole = 0;
  let pending = '';
  // One character a byte, so that lines can be counted in bytes.
  for await (const chunk of createReadStream(path, 'latin1')) {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      whole += line.length + 1;
      take(line);
    }
  }
  return whole;
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
  readonly #unlock: () => Promise<void>;
  readonly #path: string;
  #failure: MailError | undefined;
  #isTold = false;

  private constructor(
    path: string,
    memory: RowMemory,
    run: number,
    [results, journal]: readonly [FileHandle, FileHandle],
    unlock: () => Promise<void>,
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
  static async open(path: string, resume: boolean): Promise<BatchJournal> {
    const journalPath = `${path}.journal`;
    const unlock = await lockFile(`${path}.lock`);
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
      const journalBytes = await readLines(journalPath, (line) => {
        const [, row, key, start] = /^(?:(\d+) (\S{8})|run (\d+) \S+)$/.exec(line) ?? [];
        if (start !== undefined) run = Number(start);
        else if (key !== undefined) memory.set(Number(row), key, run, 'begun');
        else throw damaged(journalPath, line);
      });
      const resultBytes = await readLines(path, (line) => {
        // The fields that count stand first, so that a million lines need not be parsed.
        const [, row, key, of, state] =
          /^\{"row":(\d+),"key":"([\w-]{8})","run":(\d+),"state":"([a-z-]+)"/.exec(line) ?? [];
        const known = states.find((one) => one === state);
        if (key === undefined || known === undefined) throw damaged(path, line);
        if (Number(of) >= memory.run(Number(row))) memory.set(Number(row), key, Number(of), known);
      });
      const results = await open(path, 'a', 0o600);
      const journal = await open(journalPath, 'a', 0o600);
      await results.truncate(resultBytes);
      await journal.truncate(journalBytes);
      const opened = new BatchJournal(path, memory, run + 1, [results, journal], unlock);
      await opened.#begun.append(`run ${run + 1} ${randomUUID()}\n`);
      await opened.#listDoubtful();
      return opened;
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  /** What was about to leave when an earlier run ended. */
  async #listDoubtful(): Promise<void> {
    for (let row = 1; row <= this.#memory.highest; row++) {
      if (this.#memory.state(row) !== 'begun') continue;
      this.end(row, this.#memory.key(row), {
        state: 'in-doubt',
        error: { message: 'An earlier run ended while the message was being sent; the server may have it.' },
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
    let count = 0;
    for (let row = 1; row <= this.#memory.highest; row++) if (this.#memory.state(row) === state) count++;
    return count;
  }

  /** Resolves when it is on the disk that the row's message is about to leave. */
  begin(row: number, key: string): Promise<void> {
    return this.#begun.append(`${row} ${key}\n`).catch((error) => {
      throw unwritable(`${this.#path}.journal`, error);
    });
  }

  /**
   * Writes down how a row ended.
   *
   * @throws MailError `STORAGE_UNAVAILABLE` when an earlier line could not be written.
   */
  end(row: number, key: string, { state, ...more }: RowResult): void {
    this.#tell();
    this.#memory.set(row, key, this.#run, state);
    this.#ended.append(`${JSON.stringify({ row, key, run: this.#run, state, ...more })}\n`).catch((error) => {
      this.#failure ??= unwritable(this.#path, error);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ended.flushed();
    for (const file of this.#files) {
      await file.datasync().catch((error) => {
        this.#failure ??= unwritable(this.#path, error);
      });
      await file.close();
    }
    await this.#unlock();
    this.#tell();
  }
}
