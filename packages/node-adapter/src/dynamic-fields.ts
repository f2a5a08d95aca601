import { isMailError, MailError } from '@flowpost/core';
import { withValuesKept } from './address-text.ts';
import type { FlowData } from './flow/flow-data.ts';
import { assertOne, engines, type FieldKind, missingName, templates, writers } from './liquid.ts';
import { PlainTemplate } from './plain-template.ts';
import { withPlainExpressions } from './rich-text.ts';
import { isSecretName } from './secret-name.ts';
import { TextCache } from './text-cache.ts';
import { variableReference } from './written-settings.ts';

const longestOutput = 50_000_000;
const deepest = 50;

const plainTemplates = new TextCache(PlainTemplate.parse);
const richTexts = new TextCache(withPlainExpressions);
const readable = (text: string, kind: FieldKind): string => (kind === 'html' ? richTexts.get(text) : text);

const isDynamic = (text: string): boolean => text.includes('{{') || text.includes('{%');
/** Exactly one expression, and so its value rather than text. */
const whole = /^\s*\{\{-?((?:(?!\}\}|\{\{).)*?)-?\}\}\s*$/s;
/** A list has the kind of what is in it. */
const listName = (field: string): string =>
  field.endsWith(']') ? field.replace(/(?:\[\d+\])+$/, '') : field;
/** Settings that hold a secret somewhere in them. */
const holdsSecret = (name: string): boolean => isSecretName(name) || name === 'connection';

const describe = (field: string): string => (field === '' ? 'The settings' : `The field ${field}`);

function missing(field: string, given: string): MailError {
  const path = given.length > 100 ? `${given.slice(0, 100)}...` : given;
  return new MailError(
    'DYNAMIC_FIELD_MISSING',
    `${describe(field)} needs ${path}, which the flow does not have.`,
    {
      details: { field, path },
    },
  );
}

function invalid(field: string, reason: string): MailError {
  return new MailError('DYNAMIC_FIELD_INVALID', `${describe(field)} cannot be worked out: ${reason}.`, {
    details: { field, reason },
  });
}

/** What went wrong with an expression: no value of the flow is repeated, and of a secret nothing at all. */
const nativeErrors = new Set(['RangeError', 'TypeError', 'SyntaxError', 'URIError']);

function failure(error: unknown, { text, field, name }: FieldText): MailError {
  if (isMailError(error)) return error;
  const hides = holdsSecret(name);
  const variableName = missingName(error);
  if (variableName !== undefined) {
    // A part that was itself worked out is a value; only what its author wrote is shown.
    return missing(field, hides || !text.includes(variableName) ? 'a value' : variableName);
  }
  if (hides)
    return invalid(
      field,
      'an expression in it is wrong; braces in a password are written %7B and %7D in a URL',
    );
  const { originalError, message } = error as { originalError?: Error; message: string };
  const [reason = ''] = (originalError?.message ?? message).split('\n', 1);
  // What it quotes and its author did not write is a value, and what JavaScript itself says may be about one.
  const quoted = [...reason.matchAll(/"([^"]*)"?/g)].map(([, part = '']) => part);
  const mayShow = !nativeErrors.has(originalError?.name ?? '') && quoted.every((part) => text.includes(part));
  return invalid(field, mayShow ? reason.slice(0, 200) : 'an expression in it is wrong');
}

interface FieldText {
  readonly text: string;
  readonly field: string;
  /** The setting's own name, without where it stands. */
  readonly name: string;
}

function evaluate(expression: string, data: object): unknown {
  const plain = PlainTemplate.value(expression, data);
  if (plain !== undefined) return plain;
  assertOne(expression);
  return engines.text.evalValueSync(expression, data);
}

/** @throws MailError `DYNAMIC_FIELD_INVALID`. */
function assertReadable(given: FieldText, kind: FieldKind = 'text'): void {
  const text = readable(given.text, kind);
  // What is only text with names in it may also be longer than Liquid takes.
  if (plainTemplates.get(text)) return;
  const [, expression] = whole.exec(text) ?? [];
  try {
    if (expression !== undefined) assertOne(expression.trim());
    templates.text.get(text);
  } catch (error) {
    throw failure(error, given);
  }
}

/** @throws MailError `DYNAMIC_FIELD_MISSING` or `DYNAMIC_FIELD_INVALID`. */
function renderText(given: FieldText, data: object, kind: FieldKind = 'text'): unknown {
  const { field } = given;
  const text = readable(given.text, kind);
  const [, expression] = whole.exec(text) ?? [];
  try {
    // A field that is one expression keeps the value's type: a list stays a list, bytes stay bytes.
    if (expression !== undefined) return evaluate(expression.trim(), data);
    const output: string =
      plainTemplates.get(text)?.render(data, writers[kind]) ??
      engines[kind].renderSync(templates[kind].get(text), data);
    if (output.length <= longestOutput) return kind === 'addresses' ? withValuesKept(output) : output;
  } catch (error) {
    throw failure(error, given);
  }
  throw invalid(field, 'the text becomes too long');
}

function variableOf(flow: FlowData, name: string, field: string): unknown {
  if (Object.hasOwn(flow.variables, name)) return flow.variables[name];
  throw missing(field, `variables.${name}`);
}

interface Walk {
  /** What becomes of a text with expressions. */
  readonly text: (given: FieldText) => unknown;
  /** What becomes of the name of a variable. */
  readonly variable: (name: string, field: string) => unknown;
  /** The objects the walk is in. */
  readonly within: Set<object>;
}

/** Data, whatever made it; not what stands for something else, such as a date, bytes or a secret. */
const isData = (value: object): boolean =>
  Object.prototype.toString.call(value) === '[object Object]' &&
  typeof (value as { toJSON?: unknown }).toJSON !== 'function';

const mayChange = (value: unknown): boolean =>
  typeof value === 'string' ? isDynamic(value) : typeof value === 'object' && value !== null;

function resolve(value: unknown, field: string, name: string, walk: Walk): unknown {
  if (typeof value === 'string') {
    if (!isDynamic(value) || (isSecretName(name) && !whole.test(value))) return value;
    return walk.text({ text: value, field, name });
  }
  if (typeof value !== 'object' || value === null) return value;
  const isList = Array.isArray(value);
  if (!isList && !isData(value)) return value;
  const variable = isList ? undefined : variableReference(value);
  if (variable !== undefined) return walk.variable(variable, field);
  if (walk.within.has(value)) throw invalid(field, 'it leads back to itself');
  if (walk.within.size > deepest) throw invalid(field, 'it is nested too deeply');
  walk.within.add(value);
  const resolved = isList ? resolveList(value, field, name, walk) : resolveObject(value, field, walk);
  walk.within.delete(value);
  return resolved;
}

/** A copy only where something changes: most settings hold no expression at all. */
function resolveList(list: readonly unknown[], field: string, name: string, walk: Walk): unknown {
  let copy: unknown[] | undefined;
  for (let index = 0; index < list.length; index++) {
    const one = list[index];
    if (!mayChange(one)) continue;
    const resolved = resolve(one, `${field}[${index}]`, name, walk);
    if (resolved === one) continue;
    copy ??= [...list];
    copy[index] = resolved;
  }
  return copy ?? list;
}

function resolveObject(value: object, field: string, walk: Walk): unknown {
  const object = value as Record<string, unknown>;
  let copy: Record<string, unknown> | undefined;
  for (const key of Object.keys(object)) {
    const one = object[key];
    if (!mayChange(one) || key === '__proto__') continue;
    const resolved = resolve(one, field === '' ? key : `${field}.${key}`, key, walk);
    if (resolved === one) continue;
    copy ??= { ...object };
    copy[key] = resolved;
  }
  return copy ?? object;
}

/** Settings as they may be written where expressions are worked out: any value may be one, or a variable of the flow. */
export type Dynamic<Value> =
  | Value
  | `${string}{{${string}}}${string}`
  | { readonly $variable: string }
  | (Value extends readonly (infer One)[]
      ? readonly Dynamic<One>[]
      : Value extends object
        ? { readonly [Key in keyof Value]: Dynamic<Value[Key]> }
        : never);

/**
 * Settings with their expressions worked out: Liquid over `input`, `context`, `variables` and `trigger`, without files and
 * within limits of time and size. A text that is one expression becomes its value, as it is, and keeps its type;
 * `{ "$variable": NAME }` is the variable itself. What stands in values of the flow is data and not looked into. Within other
 * text a value is escaped in HTML, and cannot bring recipients of its own in a list of addresses. A password or other secret is
 * an expression only as a whole.
 *
 * @param kinds what fields hold, by their path, where that is not plain text.
 * @param more further names for expressions.
 * @throws MailError `DYNAMIC_FIELD_MISSING` naming field and path, unless the filter `default` gives a value instead;
 * `DYNAMIC_FIELD_INVALID`.
 */
export function resolveDynamicFields(
  settings: unknown,
  flow: FlowData,
  kinds: ReadonlyMap<string, FieldKind> = new Map(),
  more: Readonly<Record<string, unknown>> = {},
): unknown {
  const { input, context, variables, trigger } = flow;
  const data = { ...more, input, context, variables, trigger: trigger ?? {} };
  return resolve(settings, '', '', {
    text: (given) => renderText(given, data, kinds.get(listName(given.field))),
    variable: (name, field) => variableOf(flow, name, field),
    within: new Set(),
  });
}

/**
 * Reads every expression in settings without working it out: what is wrong here is wrong whatever the flow holds.
 *
 * @param kinds what fields hold, as for `resolveDynamicFields`.
 * @throws MailError `DYNAMIC_FIELD_INVALID` for the first that cannot be read, such as one with a filter there is none of.
 */
export function assertDynamicFields(
  settings: unknown,
  kinds: ReadonlyMap<string, FieldKind> = new Map(),
): void {
  resolve(settings, '', '', {
    text: (given) => assertReadable(given, kinds.get(listName(given.field))),
    variable: () => undefined,
    within: new Set(),
  });
}
