import { randomBytes } from 'node:crypto';
import { formatAddress, parseAddresses } from '@flowpost/core';
import { asText } from './field-text.ts';

/** Characters that mean nothing to anybody, in an order that nobody knows: no value holds them. */
const secret = String.fromCharCode(...Array.from(randomBytes(16), (byte) => 0xe000 + byte));
const begin = `\ue100${secret}`;
const end = `\ue101${secret}`;
const marks = new RegExp(`[\ue100\ue101]${secret}`);

/** An address as an object is written as one, and a list of them as a list. */
function asAddresses(value: unknown): string {
  if (Array.isArray(value)) return value.map(asAddresses).join(', ');
  const { address, name } = (value ?? {}) as { readonly address?: unknown; readonly name?: unknown };
  if (typeof address !== 'string') return asText(value);
  return formatAddress(typeof name === 'string' && name.trim() !== '' ? { name, address } : { address });
}

/**
 * A value in a template of addresses, with marks around it for {@link withValuesKept}.
 *
 * @param isCaptured whether the template made a text, of values and more; such a text says itself what is what.
 * @throws Error for such a text that was changed since, so that nobody knows any more.
 */
export function asMarked(value: unknown, isCaptured: (text: string) => boolean = () => false): string {
  const text = asAddresses(value);
  if (text.includes(secret)) {
    if (isCaptured(text)) return text;
    throw new Error('text with values in it was captured and then changed');
  }
  // Authors write those as expressions too, and nobody can do anything with them.
  return /^\s*,?\s*$/.test(text) ? text : begin + text + end;
}

const quoted = (text: string): string => text.replace(/["\\]/g, '\\$&');

/** @throws Error for what is more than an address or a part of one. */
function oneAddress(text: string): string {
  const trimmed = text.trim();
  if (/[\s,;<>"()\\]/.test(trimmed)) throw new Error('a value that stands for one address is more than that');
  return trimmed;
}

const closing: Readonly<Record<string, string>> = { '"': '"', '<': '>', '(': ')', '[': ']' };

interface Part {
  readonly text: string;
  /** For a value: what it stands in, or nothing. */
  readonly within?: string;
  /** For what the author wrote: whether all of it is white space and comments. */
  readonly isBlank?: boolean;
}

/**
 * One entry of a list, with its values such that it stays one; a value that is all of it may be a list.
 *
 * @param isNamed whether a value in it stands for a name: an address follows in angle brackets, or a group.
 */
function entryText(parts: readonly Part[], isNamed: boolean): string {
  const isAlone = parts.every(({ within, isBlank }) => within === '' || (within === undefined && isBlank));
  if (isAlone && !isNamed && parts.filter(({ within }) => within !== undefined).length === 1) {
    const written = parts.map(({ text, within }) =>
      within === undefined ? text : parseAddresses(text).map(formatAddress).join(', '),
    );
    return written.join('');
  }
  let entry = '';
  for (const { text, within } of parts) {
    if (within === undefined) entry += text;
    else if (within === '"') entry += quoted(text);
    else if (within === '(') entry += text.replace(/[()\\]/g, '\\$&');
    // A name before an address: one phrase (RFC 5322 section 3.2.5), whatever is in it.
    else if (within === '' && isNamed) entry += text === '' ? '' : `"${quoted(text)}"`;
    else entry += oneAddress(text);
  }
  return entry;
}

/**
 * A list of addresses (RFC 5322 section 3.4) out of a template's output. Where a value stands in it decides what it may be: in a
 * name anything, in an address a part of it, and by itself between commas whatever it is, a list too. None brings recipients
 * where the template has a place for a name or for one address.
 *
 * @param output with values written by {@link asMarked}.
 * @throws MailError `ADDRESS_INVALID`; Error for a value that is more than there is a place for.
 */
export function withValuesKept(output: string): string {
  let list = '';
  let entry: Part[] = [];
  let hasAngle = false;
  let within = '';
  let depth = 0;
  const pieces = output.split(marks);
  for (const [index, piece] of pieces.entries()) {
    if (index % 2 === 1) {
      entry.push({ text: piece, within });
      continue;
    }
    let from = 0;
    let isBlank = true;
    for (let at = 0; at < piece.length; at++) {
      const char = piece[at] as string;
      if (char === '\\' && within !== '') {
        if (++at === piece.length && index + 1 < pieces.length)
          throw new Error('a value follows a backslash');
      } else if (within !== '') {
        isBlank &&= within === '(';
        if (within === '(' && char === '(') depth++;
        else if (char === closing[within] && depth-- === 0) [within, depth] = ['', 0];
      } else if (char in closing) {
        within = char;
        hasAngle ||= char === '<';
        isBlank &&= char === '(';
      } else if (/[,;:]/.test(char)) {
        list +=
          entryText([...entry, { text: piece.slice(from, at), isBlank }], hasAngle || char === ':') + char;
        [entry, hasAngle, from, isBlank] = [[], false, at + 1, true];
      } else isBlank &&= /\s/.test(char);
    }
    entry.push({ text: piece.slice(from), isBlank });
  }
  return list + entryText(entry, hasAngle);
}
