import { types } from 'node:util';
import { formatAddress, isMailError, parseAddresses, parseWith } from '@flowpost/core';
import type { MailTrigger } from '@flowpost/transport';
import { z } from 'zod';
import { isFilledIn } from '../dialects/fields.ts';

/** Hosts that write JSON have null where there is nothing. */
const record = z.record(z.string(), z.unknown()).nullish();
const data = record.transform((value) => value ?? {});

/** The data of a running flow, as every dialect sees it. */
export const flowDataSchema = z.strictObject({
  /** What came in with this turn of the flow. */
  input: data,
  /** What the flow remembers. */
  context: data,
  variables: data,
  /**
   * What started the flow. For an incoming e-mail: `kind` "email", `from` as it stands there, and `headers` by name, which
   * is what the loop guard goes by.
   */
  trigger: record.transform((value) => value ?? undefined).optional(),
});

/** The data of a running flow, checked: out of {@link parseFlowData}. */
export type FlowData = z.output<typeof flowDataSchema>;
/** The data of a running flow as a host has it: what is not there may be left out or null. */
export type FlowDataInput = z.input<typeof flowDataSchema>;

/** @throws MailError `INPUT_INVALID`. */
export function parseFlowData(data: unknown): FlowData {
  return parseWith(flowDataSchema, data ?? {});
}

/** An address in whatever form a host has it; what cannot be read stays text, in which the guard looks for addresses. */
function addressText(value: unknown): string {
  if (typeof value === 'string') return value;
  try {
    return parseAddresses(value as Parameters<typeof parseAddresses>[0])
      .map(formatAddress)
      .join(', ');
  } catch (error) {
    if (!isMailError(error)) throw error;
    return JSON.stringify(value) ?? '';
  }
}

const isIterable = (value: unknown): value is Iterable<unknown> =>
  typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] === 'function';

/** Headers in whatever form a host has them: by name, as a list of name and value, as a Map or `Headers`, or as they stand in the message. */
function headerEntries(headers: unknown): [string, unknown][] {
  if (headers === undefined || headers === null) return [];
  if (typeof headers === 'string') {
    const unfolded = headers.replace(/\r?\n[ \t]+/g, ' ');
    return [...unfolded.matchAll(/^([!-9;-~]+):[ \t]*(.*?)\r?$/gm)].map(([, name = '', value = '']) => [
      name,
      value,
    ]);
  }
  if (Array.isArray(headers)) {
    return headers.flatMap((one): [string, unknown][] => {
      if (Array.isArray(one)) return [[String(one[0]), one[1]]];
      const { name, key, value, line } = (one ?? {}) as Readonly<Record<string, unknown>>;
      return [[String(name ?? key ?? ''), value ?? line]];
    });
  }
  if (types.isUint8Array(headers)) return headerEntries(Buffer.from(headers).toString('latin1'));
  if (isIterable(headers))
    return [...headers].flatMap((one) => (Array.isArray(one) ? [[String(one[0]), one[1]]] : []));
  return typeof headers === 'object' ? Object.entries(headers) : [];
}

const isPlainValue = (value: unknown): boolean => value === null || typeof value !== 'object';

/** A header's value; some hosts hand over its whole line, with its name in front. */
function withoutName(text: string, name: string): string {
  const begin = text.slice(0, name.length + 1).toLowerCase();
  return begin === `${name}:` ? text.slice(begin.length).trim() : text;
}

/** The values of a header as text; where they are addresses in a form of their own, as addresses. */
function headerValues(value: unknown, name: string): string[] {
  if (value === undefined || value === null) return [];
  const list = Array.isArray(value) ? value : [value];
  return list.map((one) => (isPlainValue(one) ? withoutName(String(one), name) : addressText(one)));
}

/** What hosts call a trigger that an e-mail is. */
const mailKind = /^(?:[eg]?-?mail|imap|pop3)$/i;
/** What they may call one too, and, as words, what only has mail in its name. */
const likeMail = /mail|imap|pop3/i;
const unlikeMail = /mail.?chimp|voice.?mail|mail(?:ing|er)?[ _.-]?(?:list(?!en)|form(?!at)|merge|campaign)/i;
const unlikeMailWords = /\b(?:merge|forms?|campaigns?)\b|^lists? /;
/** Header fields that mail has and no request, and those by which machines say so. */
const mailField = /^(?:from|sender|reply-to|received|resent-.*)$/i;
const automaticField = /^(?:return-path|auto-submitted|precedence|list-.*|x-auto.*)$/i;

const wordsOf = (kind: string): string =>
  kind.replace(/(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+/g, ' ').toLowerCase();

/** A trigger that does not say what it is and has what an e-mail has is one: better one answer too few than one too many. */
function isMail(trigger: Readonly<Record<string, unknown>>, fields: readonly string[]): boolean {
  const said = [trigger.kind, trigger.type].map((one) => (typeof one === 'string' ? one.trim() : one));
  const kind = said.find(isFilledIn);
  if (kind === undefined) return trigger.from !== undefined || trigger.headers !== undefined;
  if (typeof kind !== 'string' || mailKind.test(kind)) return typeof kind === 'string';
  if (!likeMail.test(kind)) return false;
  if (fields.some((name) => automaticField.test(name))) return true;
  if (unlikeMail.test(kind) || unlikeMailWords.test(wordsOf(kind))) return false;
  // What happened to an address ("email.verified") is none.
  return isFilledIn(trigger.from) || fields.some((name) => mailField.test(name));
}

/** The e-mail that started the flow; undefined when something else did. */
export function mailTrigger({ trigger }: FlowData): MailTrigger | undefined {
  if (!trigger) return undefined;
  const entries = headerEntries(trigger.headers);
  const fields = entries.map(([name]) => name);
  if (!isMail(trigger, fields)) return undefined;
  const headers = new Map<string, string[]>();
  for (const [name, value] of entries) {
    const key = name.toLowerCase();
    const values = headers.get(key) ?? [];
    values.push(...headerValues(value, key));
    headers.set(key, values);
  }
  const from = trigger.from === undefined || trigger.from === null ? [] : [addressText(trigger.from)];
  return { from: [...from, ...(headers.get('from') ?? [])].join(', '), headers: Object.fromEntries(headers) };
}
