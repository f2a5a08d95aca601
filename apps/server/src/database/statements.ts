/** There are some hundred different ones; whoever makes texts without end must not fill the database with them. */
const most = 500;

/** Names for statements, so that the database reads and plans each of them once. */
export class Statements {
  readonly #names = new Map<string, string>();

  /** @returns the name of a statement; undefined when there are too many. */
  nameOf(text: string): string | undefined {
    let name = this.#names.get(text);
    if (name === undefined && this.#names.size < most) {
      name = `flowpost_${this.#names.size}`;
      this.#names.set(text, name);
    }
    return name;
  }
}
