/**
 * A value that must not slip out: `String()`, template strings, `JSON.stringify` and `util.inspect` all show `***`.
 * Only {@link Concealed.reveal} gives it back.
 */
export class Concealed<Value> {
  readonly #value: Value;

  constructor(value: Value) {
    this.#value = value;
  }

  reveal(): Value {
    return this.#value;
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***';
  }
}
