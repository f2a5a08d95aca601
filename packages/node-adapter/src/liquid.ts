import { CaptureTag, type Context, Liquid, Tokenizer, TokenKind, UndefinedVariableError } from 'liquidjs';
import { asMarked } from './address-text.ts';
import { asHtml, asText } from './field-text.ts';
import { TextCache } from './text-cache.ts';

/** Nothing is read from disk, nothing inherited is seen, nothing runs long or grows large. */
const limits = {
  strictVariables: true,
  strictFilters: true,
  ownPropertyOnly: true,
  lenientIf: true,
  templates: {},
  parseLimit: 5_000_000,
  renderLimit: 1_000,
  memoryLimit: 10_000_000,
} as const;
/** What the text of a field is, and so what a value may be in it. */
export type FieldKind = 'text' | 'html' | 'addresses';

/** What `capture` made in each rendering. */
const captured = new WeakMap<Context, Set<unknown>>();

class KeptCapture extends CaptureTag {
  override *render(context: Context): Generator<unknown, void, string> {
    yield* super.render(context);
    const texts = captured.get(context) ?? new Set();
    captured.set(context, texts.add((context.bottom() as Record<string, unknown>)[this.variable]));
  }
}

/** Called as a filter is: with the rendering as `this`. */
function markedOutput(this: unknown, value: unknown): string {
  const texts = captured.get((this as { readonly context: Context }).context);
  return asMarked(value, (text) => texts?.has(text) === true);
}

/** A filter of Liquid that evaluates an expression for each item of a list. */
type ItemFilter = (this: unknown, ...values: unknown[]) => Generator<unknown, unknown, unknown>;

/** A filter whose expression comes from the flow would let whoever wrote a value write expressions. */
interface FilterCall {
  readonly context: Context;
  readonly token: { readonly input: string; readonly args: readonly unknown[] };
}

/** There is nothing they could take in, and what they do not find they name. */
const tagsOfFiles = ['include', 'render', 'layout', 'block'];

/** Liquid looks at the time between the parts of a template, and such a filter is one part. */
function withinTime(filter: ItemFilter): ItemFilter {
  return function* (...values) {
    const { context, token } = this as FilterCall;
    const { renderLimit } = context;
    const [, expression] = token.args as readonly { readonly kind?: TokenKind }[];
    const isWritten = expression?.kind === TokenKind.Quoted || token.input.includes(String(values[2]));
    if (!isWritten) throw new Error('an expression does not stand in the text');
    const working = filter.apply(this, values);
    for (let step = working.next(); ; step = working.next(yield step.value)) {
      if (step.done) return step.value;
      renderLimit.check(performance.now());
    }
  };
}

function engine(outputEscape: (value: unknown) => string): Liquid {
  const liquid = new Liquid({ ...limits, outputEscape });
  for (const [name, filter] of Object.entries(liquid.filters))
    if (name.endsWith('_exp')) liquid.registerFilter(name, withinTime(filter as ItemFilter));
  for (const name of tagsOfFiles) delete liquid.tags[name];
  return liquid;
}

/** What the flow puts into HTML is text there; the filter `raw` says otherwise. */
export const writers = { text: asText, html: asHtml, addresses: (value: unknown) => asMarked(value) };
export const engines = { text: engine(asText), html: engine(asHtml), addresses: engine(markedOutput) };
engines.addresses.registerTag('capture', KeptCapture);

/** Steps run again and again with the same settings, so a text is parsed once. */
export const templates = {
  text: new TextCache((text) => engines.text.parse(text)),
  html: new TextCache((text) => engines.html.parse(text)),
  addresses: new TextCache((text) => engines.addresses.parse(text)),
};

/** Liquid would overlook what stands behind an expression. */
export function assertOne(expression: string): void {
  const { options } = engines.text;
  const tokenizer = new Tokenizer(expression, options.operators);
  const { postfix } = tokenizer.readFilteredValue().initial;
  tokenizer.skipBlank();
  const isOne = postfix.length === 1 || postfix.some(({ kind }) => kind === TokenKind.Operator);
  if (!isOne || !tokenizer.end()) throw new Error('something follows the expression');
}

/** Which variable an expression needs that is not there; undefined for another failure. */
export function missingName(error: unknown): string | undefined {
  if (!(error instanceof UndefinedVariableError)) return undefined;
  return ((error.originalError ?? {}) as { variableName?: string }).variableName ?? '';
}
