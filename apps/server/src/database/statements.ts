import { hash } from 'node:crypto';

/** There are some hundred different ones; whoever makes texts without end must not fill the database with them. */
const most = 500;

/**
 * Names for statements, so that the database reads and plans each of them once. Two of one name are the same: where a pooler hands a
 * connection on, whoever comes next may find one that another process has named.
 */
export class Statements {
  readonly #names = new Map<string, string>();

  /** @returns the name of a statement; undefined when there are too many. */
  nameOf(text: string): string | undefined {
    let name = this.#names.get(text);
    if (name === undefined && this.#names.size < most) {
      name = `flowpost_${hash('sha256', text).slice(0, 32)}`;
      this.#names.set(text, name);
    }
    return name;
  }
}
