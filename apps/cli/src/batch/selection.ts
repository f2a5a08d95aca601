import { keyOf } from './journal.ts';
import type { Row } from './rows.ts';

/** The rows that are left to do, and their places in the file. */
export class Selection {
  /** The place in the file of each row that was handed over, until it has ended. */
  readonly places = new Map<number, { readonly row: number; readonly key: string }>();
  skipped = 0;
  #taken = 0;
  readonly #wants: (row: number, key: string) => boolean;
  readonly #limit: number;

  constructor(wants: (row: number, key: string) => boolean, limit: number) {
    this.#wants = wants;
    this.#limit = limit;
  }

  async *of(rows: AsyncIterable<Row>): AsyncGenerator<Row, void, undefined> {
    let row = 0;
    for await (const one of rows) {
      if (this.#taken >= this.#limit) return;
      const key = keyOf(one);
      if (this.#wants(++row, key)) {
        this.places.set(this.#taken++, { row, key });
        yield one;
      } else this.skipped++;
    }
  }

  place(index: number): { readonly row: number; readonly key: string } {
    return this.places.get(index) ?? { row: 0, key: '' };
  }
}
