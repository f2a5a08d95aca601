/** A name with names after it, and nothing more: `row.email`. */
const path = /^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/;
const output = /\{\{[ \t]*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)[ \t]*\}\}/;
/** Words that Liquid takes for something else than a name, or a property that is there for everything. */
const special: ReadonlySet<string> = new Set([
  ...['true', 'false', 'nil', 'null', 'empty', 'blank'],
  ...['and', 'or', 'not', 'contains', 'size', 'first', 'last'],
]);

type Path = readonly string[];

function readPath(text: string): Path | undefined {
  const names = path.test(text) ? text.split('.') : [];
  return names.length > 0 && !names.some((name) => special.has(name)) ? names : undefined;
}

/** @returns the value; undefined when there is none, or when it takes more than looking to get it. */
function lookUp(data: unknown, names: Path): unknown {
  let value = data;
  for (const name of names) {
    const isPlain = typeof value === 'object' && value !== null && !Array.isArray(value);
    if (!isPlain || !Object.hasOwn(value as object, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  const isSpecial = typeof value === 'object' && value !== null && 'toLiquid' in value;
  return typeof value === 'function' || isSpecial ? undefined : value;
}

/**
 * Most templates are text with names in it, and most expressions are a name. For those what Liquid does comes down to looking a
 * value up, which takes a tenth of the time. Everything else, a value that is missing included, is Liquid's.
 */
export class PlainTemplate {
  readonly #texts: readonly string[];
  readonly #paths: readonly Path[];

  private constructor(texts: readonly string[], paths: readonly Path[]) {
    this.#texts = texts;
    this.#paths = paths;
  }

  /** @returns null for what is more than text with names in it. */
  static parse(template: string): PlainTemplate | null {
    const parts = template.split(output);
    const texts = parts.filter((_, index) => index % 2 === 0);
    const paths = parts.filter((_, index) => index % 2 === 1).map(readPath);
    if (paths.some((one) => one === undefined) || texts.some((one) => /\{(?:[{%]|$)/.test(one))) return null;
    return new PlainTemplate(texts, paths as Path[]);
  }

  /** The value of an expression that is a name. @returns undefined when that is Liquid's. */
  static value(expression: string, data: unknown): unknown {
    const names = readPath(expression);
    return names && lookUp(data, names);
  }

  /** @returns undefined when that is Liquid's. */
  render(data: unknown, write: (value: unknown) => string): string | undefined {
    let text = this.#texts[0] ?? '';
    for (const [index, names] of this.#paths.entries()) {
      const value = lookUp(data, names);
      if (value === undefined) return undefined;
      text += write(value) + (this.#texts[index + 1] ?? '');
    }
    return text;
  }
}
