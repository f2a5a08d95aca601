import { keyOf } from './row-memory.ts';
import type { Row, Rows } from './rows.ts';

/** When a row is wanted: at once, when all of those have had their turn, or not at all. */
export type Turn = 'first' | 'later' | 'never';

/** The rows that are left to do, and their places in the file. */
export class Selection {
  /** The place in the file of each row that was handed over, until it has ended. */
  readonly places = new Map<number, { readonly row: number; readonly key: string }>();
  skipped = 0;
  #taken = 0;
  readonly #turnOf: (row: number, key: string) => Turn;
  readonly #limit: number;

  constructor(turnOf: (row: number, key: string) => Turn, limit: number) {
    this.#turnOf = turnOf;
    this.#limit = limit;
  }

  async *of(rows: Rows): AsyncGenerator<Row, void, undefined> {
    const isLater = yield* this.#pass(rows, rows.canRepeat ? ['first'] : ['first', 'later']);
    // What failed before may fail again, and must not be in the way of those who were not tried yet.
    if (isLater && rows.canRepeat && this.#taken < this.#limit) yield* this.#pass(rows, ['later']);
  }

  /** @returns whether some are left for later. */
  async *#pass(rows: Rows, turns: readonly Turn[]): AsyncGenerator<Row, boolean, undefined> {
    let row = 0;
    let isLater = false;
    for await (const one of rows) {
      const key = keyOf(one);
      const turn = this.#turnOf(++row, key);
      if (turn === 'never' && turns.includes('first')) this.skipped++;
      if (!turns.includes(turn)) {
        isLater ||= turn === 'later';
        continue;
      }
      this.places.set(this.#taken++, { row, key });
      yield one;
      // Not when the next one comes, for which one might wait for ever.
      if (this.#taken >= this.#limit) break;
    }
    return isLater;
  }

  place(index: number): { readonly row: number; readonly key: string } {
    return this.places.get(index) ?? { row: 0, key: '' };
  }
}
