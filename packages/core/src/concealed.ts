/**
 * What kind of secret an object is. It stands in place of its class: a program may hold several copies of this package, and a
 * secret made by one must be one to the others.
 */
export const secretKind: unique symbol = Symbol.for('@flowpost/core/secret-kind');

/** Whether a value is a secret of that kind. */
export const isSecretOf = (value: unknown, kind: string): boolean =>
  typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[secretKind] === kind;

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
