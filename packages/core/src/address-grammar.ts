import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { decodeWords } from './encoded-words.ts';

/** One mailbox found in a list, or what is wrong with the text in its place. */
export type ParsedEntry =
  | { readonly name?: string; readonly address: string }
  | { readonly part: string; readonly position: number; readonly reason: string };

/** atext of RFC 5322 section 3.2.3, with the non-ASCII characters RFC 6532 adds; C1 controls stay out. */
const atext = String.raw`[A-Za-z0-9!#$%&'*+/=?^_\x60{|}~\u00a0-\u{10ffff}-]`;
const dotAtom = new RegExp(`^${atext}+(?:\\.${atext}+)*$`, 'u');
/** A period in a phrase is read, and not written (RFC 5322 section 4.1). */
const bareName = new RegExp(`^${atext}+(?: ${atext}+)*$`, 'u');
/** What nobody sees, and files and editors put there: byte order marks, soft hyphens, marks of width and direction. */
const invisible = /[\ufeff\u00ad\u200b\u200e\u200f\u2060]/;
const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i;
export const controlCharacter = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/;

const maxLocalOctets = 64;
const maxAddressOctets = 254;

const isWhiteSpace = (char: string | undefined): boolean => char === ' ' || char === '\t';

/** Trims what the grammar calls white space; other spaces of Unicode are characters like any other. */
function trim(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isWhiteSpace(text[start])) start++;
  while (end > start && isWhiteSpace(text[end - 1])) end--;
  return text.slice(start, end);
}

const needsQuotes = (local: string): boolean => !dotAtom.test(local);
const quote = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;

/**
 * What an internationalised domain is made of: letters, marks, digits, the four kinds of dot, joiners. Anything else
 * would be understood as a URL's host, path or escape.
 */
const idn = /^(?:[\p{L}\p{M}\p{N}._\-\u00b7\u30fb\u3002\uff0e\uff61]|\u200c|\u200d)+$/u;

/** The domain in ASCII (A-labels, RFC 5891), or undefined when it is not a domain. */
export function toAsciiDomain(domain: string): string | undefined {
  const isAscii = /^[\x21-\x7e]*$/.test(domain);
  if (!isAscii && !idn.test(domain)) return undefined;
  const labels = (isAscii ? domain : domainToASCII(domain)).split('.');
  const ascii = labels.join('.');
  // A last label of digits would be an IPv4 address without its brackets.
  const isDomain =
    ascii.length <= 253 && labels.every((part) => label.test(part)) && !/^\d+$/.test(labels.at(-1) ?? '');
  return isDomain ? ascii : undefined;
}

/** An address in brackets (RFC 5321 section 4.1.3). */
function isAddressLiteral(domain: string): boolean {
  const [, v6, v4] = /^\[(?:IPv6:([^\]]*)|([^\]]*))\]$/i.exec(domain) ?? [];
  return v6 === undefined ? isIPv4(v4 ?? '') : isIPv6(v6);
}

/** Takes an addr-spec apart. Returns it in its shortest spelling, or the reason why it is none. */
export function parseAddrSpec(text: string): { address: string } | { reason: string } {
  if (!text.isWellFormed() || controlCharacter.test(text)) {
    return { reason: 'it contains a line break, a control character or half a character' };
  }
  const at = text.lastIndexOf('@');
  if (at < 0) return { reason: 'there is no @ in it' };
  const domain = text.slice(at + 1);
  let local = text.slice(0, at);
  if (local === '') return { reason: 'there is no name before the @' };
  // Legal in quotation marks, but no mail system carries them, and between < and > they would end an address.
  if (/[<>]/.test(local)) return { reason: 'there is a < or > before the @' };
  if (domain === '') return { reason: 'there is no domain after the @' };
  if (local.startsWith('"')) {
    if (!/^"(?:[^"\\]|\\.)*"$/u.test(local)) return { reason: 'the quotes before the @ do not match' };
    local = local.slice(1, -1).replace(/\\(.)/gu, '$1');
    if (local === '') return { reason: 'there is no name before the @' };
    if (needsQuotes(local)) local = quote(local);
  } else if (needsQuotes(local)) {
    return { reason: `"${local}" is not a valid name before the @` };
  } else {
    const hidden = invisible.exec(local)?.[0].codePointAt(0);
    if (hidden !== undefined) {
      const code = hidden.toString(16).toUpperCase().padStart(4, '0');
      return { reason: `there is an invisible character (U+${code}) before the @` };
    }
  }
  const ascii = toAsciiDomain(domain);
  if (ascii === undefined && !isAddressLiteral(domain)) {
    return { reason: `"${domain}" is not a valid domain` };
  }
  const address = `${local}@${domain}`;
  if (Buffer.byteLength(local) > maxLocalOctets)
    return { reason: 'the name before the @ is longer than 64 octets' };
  if (Buffer.byteLength(`${local}@${ascii ?? domain}`) > maxAddressOctets)
    return { reason: 'it is longer than 254 octets' };
  return { address };
}

/**
 * Reads a mailbox or address list of RFC 5322 section 3.4: display names, quoted strings, comments (a comment
 * after a bare address is its name, as in old mail), groups, domain literals; Unicode as RFC 6532 allows.
 * Stricter than the RFC's obsolete forms: no empty entries, no routes, no folding.
 */
export class AddressListReader {
  readonly #text: string;
  readonly #entries: ParsedEntry[] = [];
  #at = 0;
  #inGroup = false;
  /** The entry being read: its start, its words, its comments and what stood in angle brackets. */
  #start = 0;
  #words = '';
  #hasAt = false;
  /** The same as a display name: quoted strings apart from what stands between them. */
  #name: { text: string; readonly quoted: boolean }[] = [];
  #comments: string[] = [];
  #angle: string | undefined;
  #afterAngle = false;
  #reason: string | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  read(): ParsedEntry[] {
    const text = this.#text;
    const control = controlCharacter.exec(text);
    if (control) {
      return [
        { part: text, position: control.index + 1, reason: 'it contains a line break or control character' },
      ];
    }
    let groupJustEnded = false;
    while (this.#at < text.length) {
      const char = text[this.#at] as string;
      if (char === ',') {
        if (groupJustEnded) this.#begin(this.#at + 1);
        else this.#finish();
        groupJustEnded = false;
      } else if (char === ';' && this.#inGroup) {
        if (trim(this.#text.slice(this.#start, this.#at)) !== '') this.#finish();
        this.#inGroup = false;
        groupJustEnded = true;
        this.#begin(this.#at + 1);
      } else {
        this.#readPart(char);
        if (groupJustEnded && trim(char) !== '') {
          this.#reason ??= 'a comma is missing after the group';
          groupJustEnded = false;
        }
      }
      this.#at++;
    }
    if (this.#inGroup) this.#reason ??= 'the group is not closed by a semicolon';
    if (!groupJustEnded) this.#finish();
    return this.#entries;
  }

  #begin(start: number): void {
    this.#start = start;
    this.#words = '';
    this.#hasAt = false;
    this.#name = [];
    this.#comments = [];
    this.#angle = undefined;
    this.#afterAngle = false;
    this.#reason = undefined;
  }

  /** Reads one syntactic part and leaves the position on its last character. */
  #readPart(char: string): void {
    if (char === '"') this.#append(this.#delimited('"', 'the quotation mark is not closed'));
    else if (char === '[') this.#append(this.#delimited(']', 'the bracket is not closed'));
    else if (char === '(') this.#readComment();
    else if (char === '<') this.#readAngle();
    else if (char === ';') this.#reason ??= 'addresses are separated by commas, not semicolons';
    else if (char === ':' && !this.#inGroup && !this.#hasAt && this.#angle === undefined) {
      if (trim(this.#words) === '') this.#reason ??= 'the group before the colon has no name';
      const reason = this.#reason;
      this.#inGroup = true;
      this.#begin(this.#at + 1);
      this.#reason = reason;
    } else this.#append(char);
  }

  #append(text: string): void {
    if (this.#afterAngle && trim(text) !== '') this.#reason ??= 'there is text after the address';
    this.#words += text;
    this.#hasAt ||= text.includes('@');
    const quoted = text.startsWith('"');
    const last = this.#name.at(-1);
    if (quoted || !last || last.quoted) this.#name.push({ text, quoted });
    else last.text += text;
  }

  /** Reads up to a closing character, over quoted pairs; returns the text with its delimiters. */
  #delimited(close: string, otherwise: string): string {
    const from = this.#at;
    for (let at = from + 1; at < this.#text.length; at++) {
      if (this.#text[at] === '\\') at++;
      else if (this.#text[at] === close) {
        this.#at = at;
        return this.#text.slice(from, at + 1);
      }
    }
    this.#reason ??= otherwise;
    this.#at = this.#text.length - 1;
    return this.#text.slice(from);
  }

  #readComment(): void {
    let depth = 0;
    const from = this.#at;
    for (let at = from; at < this.#text.length; at++) {
      const char = this.#text[at];
      if (char === '\\') at++;
      else if (char === '(') depth++;
      else if (char === ')' && --depth === 0) {
        this.#comments.push(this.#text.slice(from + 1, at).replace(/\\(.)/gu, '$1'));
        this.#at = at;
        return;
      }
    }
    this.#reason ??= 'the parenthesis is not closed';
    this.#at = this.#text.length - 1;
  }

  #readAngle(): void {
    const from = this.#at;
    let quoted = false;
    for (let at = from + 1; at < this.#text.length; at++) {
      const char = this.#text[at];
      if (quoted && char === '\\') at++;
      else if (char === '"') quoted = !quoted;
      else if (char === '>' && !quoted) {
        if (this.#afterAngle) this.#reason ??= 'there is more than one address in angle brackets';
        this.#angle = trim(this.#text.slice(from + 1, at));
        this.#afterAngle = true;
        this.#at = at;
        return;
      }
    }
    this.#reason ??= 'the angle bracket is not closed';
    this.#at = this.#text.length - 1;
  }

  #finish(): void {
    const raw = this.#text.slice(this.#start, this.#at);
    const reason = this.#reason ?? this.#complete();
    if (reason !== undefined) {
      const leading = raw.length - raw.replace(/^[ \t]+/, '').length;
      this.#entries.push({ part: trim(raw), position: this.#start + leading + 1, reason });
    }
    this.#begin(this.#at + 1);
  }

  /** Adds the entry that was read, or returns what is wrong with it. */
  #complete(): string | undefined {
    const words = trim(this.#words);
    if (this.#angle === undefined && words === '') {
      return this.#comments.length > 0 ? 'there is only a comment' : 'it is empty';
    }
    const spec = parseAddrSpec(this.#angle ?? words);
    if ('reason' in spec) {
      return this.#angle === undefined && !words.includes('@')
        ? `${spec.reason}; a name that contains a comma must stand in quotation marks`
        : spec.reason;
    }
    const name = this.#angle === undefined ? trim(this.#comments.join(' ')) : this.#displayName();
    if (!name.isWellFormed()) return 'the name contains half a character';
    if (controlCharacter.test(name)) return 'the name contains a line break or control character';
    this.#entries.push(name.trim() === '' ? spec : { name, address: spec.address });
    return undefined;
  }

  /** Words and quoted strings. White space between them becomes one space, inside quotation marks it stays. */
  #displayName(): string {
    const parts = this.#name.map(({ text, quoted }) =>
      quoted ? text.slice(1, -1).replace(/\\(.)/gu, '$1') : decodeWords(text.replace(/[ \t]+/g, ' ')),
    );
    const last = this.#name.length - 1;
    return parts
      .map((part, index) => (index === 0 && !this.#name[0]?.quoted ? part.replace(/^ /, '') : part))
      .map((part, index) => (index === last && !this.#name[last]?.quoted ? part.replace(/ $/, '') : part))
      .join('');
  }
}

/** A display name as it is written before `<address>`: bare where the grammar allows, in quotation marks otherwise. */
export function formatName(name: string): string {
  return bareName.test(name) && !name.includes('=?') ? name : quote(name);
}
