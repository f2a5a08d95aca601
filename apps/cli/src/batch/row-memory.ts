import { hash } from 'node:crypto';
import type { Row } from './rows.ts';

/** How a row ended. `deferred` was not sent and may succeed later; `in-doubt` may have been sent. */
export type RowState = 'sent' | 'partial' | 'failed' | 'deferred' | 'in-doubt';
export const states: readonly (RowState | 'begun')[] = [
  'begun',
  'sent',
  'partial',
  'failed',
  'deferred',
  'in-doubt',
];

const keyLength = 8;
/** Tells the rows of one file apart; no more is needed. */
export const keyOf = (row: Row): string =>
  hash('sha256', JSON.stringify(row), 'base64url').slice(0, keyLength);

/** What became of each row in which run, in a few bytes a row, so that there may be millions. */
export class RowMemory {
  #states = new Uint8Array(1_024);
  #runs = new Uint32Array(1_024);
  #keys = Buffer.alloc(keyLength * 1_024);
  highest = 0;

  #grow(row: number): void {
    const size = Math.max(row + 1, this.#states.length * 2);
    const [oldStates, oldRuns, oldKeys] = [this.#states, this.#runs, this.#keys];
    this.#states = new Uint8Array(size);
    this.#states.set(oldStates);
    this.#runs = new Uint32Array(size);
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

  *rows(): Generator<number, void, undefined> {
    for (let row = 1; row <= this.highest; row++) if (this.state(row) !== undefined) yield row;
  }

  /** How many rows ended so. */
  count(state: RowState): number {
    let count = 0;
    for (let row = 1; row <= this.highest; row++) if (this.state(row) === state) count++;
    return count;
  }

  key(row: number): string {
    return this.#keys.toString('latin1', row * keyLength, (row + 1) * keyLength);
  }
}
