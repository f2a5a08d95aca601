const mostTexts = 1_000;
const mostCharacters = 5_000_000;

/** What was made of a text, for when it comes again. Only as many are kept as a few flows have. */
export class TextCache<Value> {
  readonly #make: (text: string) => Value;
  readonly #known = new Map<string, Value>();
  #characters = 0;

  constructor(make: (text: string) => Value) {
    this.#make = make;
  }

  get(text: string): Value {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const made = this.#make(text);
    this.#characters += text.length;
    if (this.#characters > mostCharacters || this.#known.size >= mostTexts) {
      this.#known.clear();
      this.#characters = text.length;
    }
    this.#known.set(text, made);
    return made;
  }
}
