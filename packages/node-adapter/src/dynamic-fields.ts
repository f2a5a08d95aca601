import { MailError } from '@flowpost/core';
import { Liquid, UndefinedVariableError } from 'liquidjs';
import type { FlowData } from './flow/flow-data.ts';

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
const longestOutput = 50_000_000;
const deepest = 50;

/** How a value looks inside other text. */
function asText(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(asText).join(', ');
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
};
const asHtml = (value: unknown): string => asText(value).replace(/[&<>"']/g, (one) => escapes[one] ?? one);

const engines = {
  text: new Liquid({ ...limits, outputEscape: asText }),
  /** What the flow puts into HTML is text there; the filter `raw` says otherwise. */
  html: new Liquid({ ...limits, outputEscape: asHtml }),
};

const isDynamic = (text: string): boolean => text.includes('{{') || text.includes('{%');
/** Exactly one expression, and so its value rather than text. */
const whole = /^\s*\{\{-?((?:(?!\}\}|\{\{).)*?)-?\}\}\s*$/s;
/** Names of settings whose value may hold braces of its own, and must not be shown. */
const secretName = /password|secret|token|privatekey/i;

const describe = (field: string): string => (field === '' ? 'The settings' : `The field ${field}`);

function missing(field: string, path: string): MailError {
  return new MailError(
    'DYNAMIC_FIELD_MISSING',
    `${describe(field)} needs ${path}, which the flow does not have.`,
    {
      details: { field, path },
    },
  );
}

/** What went wrong with an expression, without the text around it. */
function failure(error: unknown, field: string): MailError {
  if (error instanceof UndefinedVariableError) {
    const { variableName } = (error.originalError ?? {}) as { variableName?: string };
    return missing(field, variableName ?? 'a value');
  }
  const { originalError, message } = error as { originalError?: Error; message: string };
  const reason = (originalError?.message ?? message).split('\n', 1)[0]?.slice(0, 200) ?? '';
  return new MailError('DYNAMIC_FIELD_INVALID', `${describe(field)} cannot be worked out: ${reason}.`, {
    details: { field, reason },
  });
}

/** @throws MailError `DYNAMIC_FIELD_MISSING` or `DYNAMIC_FIELD_INVALID`. */
function renderText(text: string, data: object, field: string, isHtml: boolean): unknown {
  const [, expression] = whole.exec(text) ?? [];
  try {
    // A field that is one expression keeps the value's type: a list stays a list, bytes stay bytes.
    if (expression !== undefined) return engines.text.evalValueSync(expression.trim(), data);
    const output: string = engines[isHtml ? 'html' : 'text'].parseAndRenderSync(text, data);
    if (output.length <= longestOutput) return output;
  } catch (error) {
    throw failure(error, field);
  }
  throw failure(new Error('the text becomes too long'), field);
}

function variableOf(flow: FlowData, name: string, field: string): unknown {
  if (Object.hasOwn(flow.variables, name)) return flow.variables[name];
  throw missing(field, `variables.${name}`);
}

/** The name in `{ "$variable": NAME }`. */
function variableReference(value: object): string | undefined {
  const name = (value as { $variable?: unknown }).$variable;
  return typeof name === 'string' && Object.keys(value).length === 1 ? name : undefined;
}

interface Walk {
  readonly flow: FlowData;
  readonly data: object;
  /** Top-level fields that hold HTML. */
  readonly htmlFields: ReadonlySet<string>;
}

const isPlain = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
};

function resolve(value: unknown, field: string, name: string, depth: number, walk: Walk): unknown {
  if (typeof value === 'string') {
    if (!isDynamic(value) || (secretName.test(name) && !whole.test(value))) return value;
    return renderText(value, walk.data, field, walk.htmlFields.has(field));
  }
  if (typeof value !== 'object' || value === null || depth > deepest) return value;
  if (Array.isArray(value)) return resolveList(value, field, name, depth, walk);
  if (!isPlain(value)) return value;
  const variable = variableReference(value);
  if (variable !== undefined) return variableOf(walk.flow, variable, field);
  return resolveObject(value as Record<string, unknown>, field, depth, walk);
}

/** A copy only where something changes: most settings hold no expression at all. */
function resolveList(
  list: readonly unknown[],
  field: string,
  name: string,
  depth: number,
  walk: Walk,
): unknown {
  let copy: unknown[] | undefined;
  for (let index = 0; index < list.length; index++) {
    const one = list[index];
    if (!mayChange(one)) continue;
    const resolved = resolve(one, `${field}[${index}]`, name, depth + 1, walk);
    if (resolved === one) continue;
    copy ??= [...list];
    copy[index] = resolved;
  }
  return copy ?? list;
}

function resolveObject(object: Record<string, unknown>, field: string, depth: number, walk: Walk): unknown {
  let copy: Record<string, unknown> | undefined;
  for (const key in object) {
    const one = object[key];
    if (!mayChange(one) || !Object.hasOwn(object, key) || key === '__proto__') continue;
    const resolved = resolve(one, field === '' ? key : `${field}.${key}`, key, depth + 1, walk);
    if (resolved === one) continue;
    copy ??= { ...object };
    copy[key] = resolved;
  }
  return copy ?? object;
}

const mayChange = (value: unknown): boolean =>
  typeof value === 'string' ? isDynamic(value) : typeof value === 'object' && value !== null;

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

/** Which settings are a variable of the flow as a whole, by the setting's name: `details` for `{{ variables.details }}`. */
export type SettingOrigins = ReadonlyMap<string, string>;

/** @returns the variable a setting is, whichever way it is written. */
export function settingOrigins(settings: unknown): SettingOrigins {
  const origins = new Map<string, string>();
  for (const [key, value] of Object.entries(settings ?? {})) {
    const text =
      typeof value === 'string' ? /^\s*\{\{\s*variables\.([\w-]+)\s*\}\}\s*$/.exec(value)?.[1] : undefined;
    const name = typeof value === 'object' && value !== null ? variableReference(value) : text;
    if (name !== undefined) origins.set(key, name);
  }
  return origins;
}

/**
 * Settings with their expressions worked out: Liquid over `input`, `context`, `variables` and `trigger`, without files and
 * within limits of time and size. A text that is one expression becomes its value and keeps its type; `{ "$variable": NAME }`
 * is the variable itself. What stands in values of the flow is data and not looked into; in HTML it is escaped. A password or
 * other secret is an expression only as a whole.
 *
 * @throws MailError `DYNAMIC_FIELD_MISSING` naming field and path, unless the filter `default` gives a value instead;
 * `DYNAMIC_FIELD_INVALID`.
 */
export function resolveDynamicFields(
  settings: unknown,
  flow: FlowData,
  htmlFields: ReadonlySet<string> = new Set(),
  more: Readonly<Record<string, unknown>> = {},
): unknown {
  const { input, context, variables, trigger } = flow;
  const data = { ...more, input, context, variables, trigger: trigger ?? {} };
  return resolve(settings, '', '', 0, { flow, data, htmlFields });
}
