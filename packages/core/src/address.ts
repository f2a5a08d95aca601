import { z } from 'zod';
import {
  AddressListReader,
  controlCharacter,
  formatName,
  type ParsedEntry,
  parseAddrSpec,
  toAsciiDomain,
} from './address-grammar.ts';
import { MailError } from './errors/mail-error.ts';
import { listed, listProblems, shorten } from './errors/schema-error.ts';

/** A mailbox: an address, with the name to show beside it. */
export interface EmailAddress {
  readonly name?: string;
  /** `local@domain`. The domain may be Unicode; it is converted to A-labels where it is used. */
  readonly address: string;
}

/** Anything addresses come as: a list in one string, one address, an object, an array, nested as one likes. */
export type AddressInput =
  | string
  | { readonly name?: string | null | undefined; readonly address: string }
  | readonly AddressInput[];

/** One bad part of an address list. */
export interface AddressProblem {
  /** The text that is not an address. */
  readonly part: string;
  /** Which entry it is, counted from 1 over the whole input. */
  readonly entry: number;
  /** Where it begins in the string it stands in, counted from 1. */
  readonly position: number;
  readonly reason: string;
}

/** Most addresses are this plain; everything else takes the full grammar. */
const plain =
  /^[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** Deeper than anybody nests lists on purpose. */
const maxDepth = 20;
/** How much of a bad part is worth repeating. */
const shownCharacters = 100;

/** Whoever sends much sends it from the same few addresses. */
const mostRecent = 50;
const recent = new Map<string, readonly ParsedEntry[]>();

function readList(text: string): ParsedEntry[] {
  const known = recent.get(text);
  // Whoever gets them may change them.
  if (known) return known.map((entry) => ({ ...entry }));
  const entries = new AddressListReader(text).read();
  if (text.length > shownCharacters) return entries;
  if (recent.size >= mostRecent) recent.clear();
  recent.set(
    text,
    entries.map((entry) => ({ ...entry })),
  );
  return entries;
}

function readEntries(input: unknown, depth = 0): ParsedEntry[] {
  if (typeof input === 'string') {
    if (input.length <= 64 && plain.test(input)) return [{ address: input }];
    return input.trim() === '' ? [] : readList(input);
  }
  if (Array.isArray(input)) {
    if (depth === maxDepth)
      return [{ part: '[...]', position: 1, reason: 'the lists are nested too deeply' }];
    return input.flatMap((element) =>
      typeof element === 'string' && element.trim() === ''
        ? [{ part: element, position: 1, reason: 'it is empty' }]
        : readEntries(element, depth + 1),
    );
  }
  if (typeof input === 'object' && input !== null && 'address' in input) {
    const { address, name: given } = input as { address: unknown; name?: unknown };
    // Out of a flow a name can be a number.
    const name = typeof given === 'number' ? String(given) : given;
    if (typeof address === 'string' && (name === undefined || name === null || typeof name === 'string')) {
      return [readMailbox(address.trim(), name ?? undefined)];
    }
  }
  const part =
    input === null || typeof input !== 'object' ? String(input) : `a value of type ${typeof input}`;
  return [{ part, position: 1, reason: 'it is neither text, nor a list, nor an object with an address' }];
}

function readMailbox(text: string, name: string | undefined): ParsedEntry {
  const spec = parseAddrSpec(text);
  if ('reason' in spec) return { part: text, position: 1, reason: spec.reason };
  if (name === undefined || name.trim() === '') return spec;
  if (controlCharacter.test(name) || !name.isWellFormed()) {
    return { part: name, position: 1, reason: 'the name contains a line break or control character' };
  }
  return { name, address: spec.address };
}

/** Reads addresses without throwing: the mailboxes found, and every problem. */
function readAddresses(input: unknown): { addresses: EmailAddress[]; problems: AddressProblem[] } {
  const addresses: EmailAddress[] = [];
  const problems: AddressProblem[] = [];
  readEntries(input).forEach((entry, index) => {
    if ('reason' in entry)
      problems.push({
        ...entry,
        part: shorten(entry.part, shownCharacters),
        reason: shorten(entry.reason, shownCharacters),
        entry: index + 1,
      });
    else addresses.push(entry);
  });
  return { addresses, problems };
}

/** One sentence about a problem, for messages. */
function describeAddressProblem({ part, entry, position, reason }: AddressProblem): string {
  return `${JSON.stringify(part)} (address ${entry}, character ${position}) is not an address: ${reason}`;
}

/**
 * Reads addresses (RFC 5322 section 3.4, RFC 6532): a comma-separated list, one address, an object, an array,
 * or nested mixes. Blank text means no address.
 *
 * @throws MailError `ADDRESS_INVALID`; `details.problems` lists every bad part with its position, up to 50.
 */
export function parseAddresses(input: AddressInput): EmailAddress[] {
  const { addresses, problems } = readAddresses(input);
  if (problems.length > 0) {
    const text = listProblems(problems.map(describeAddressProblem));
    throw new MailError('ADDRESS_INVALID', `${text}.`, { details: { problems: listed(problems) } });
  }
  return addresses;
}

/** `Name <address>`, quoted where needed, so that {@link parseAddresses} gives the same mailbox back. */
export function formatAddress({ name, address }: EmailAddress): string {
  return name === undefined ? address : `${formatName(name)} <${address}>`;
}

/** Whether the address needs SMTPUTF8 (RFC 6531): only when its local part is not ASCII; a domain can be converted. */
export function needsSmtpUtf8(address: string): boolean {
  return /[^\x00-\x7f]/.test(address.slice(0, address.lastIndexOf('@')));
}

/** The address as the wire wants it: a Unicode domain becomes A-labels, which every server understands. */
export function toWireAddress(address: string): string {
  if (/^[\x00-\x7f]*$/.test(address)) return address;
  const at = address.lastIndexOf('@');
  return `${address.slice(0, at)}@${toAsciiDomain(address.slice(at + 1)) ?? address.slice(at + 1)}`;
}

/** One spelling for one recipient: two of a domain are the same; two of a local part may be two (RFC 5321 section 2.4). */
export function addressKey(address: string): string {
  const wire = toWireAddress(address);
  const at = wire.lastIndexOf('@');
  return wire.slice(0, at) + wire.slice(at).toLowerCase();
}

/** The domain of an address in one spelling: A-labels, in lower case. */
export function domainOf(address: string): string {
  const key = addressKey(address);
  return key.slice(key.lastIndexOf('@') + 1);
}

/** Providers whose users receive `user+tag@` as `user@`, and those that ignore dots. */
const ignoresDots = new Set(['gmail.com']);
const dropsTags = new Set(
  'gmail.com outlook.com hotmail.com live.com icloud.com me.com fastmail.com proton.me protonmail.com'.split(
    ' ',
  ),
);
const aliasDomains = new Map([['googlemail.com', 'gmail.com']]);

/**
 * The same text for two addresses that reach the same mailbox: case is ignored, and so are the tags and dots that known
 * providers ignore. Made for guards, which would rather find one match too many.
 */
export function mailboxKey(address: string): string {
  const at = address.lastIndexOf('@');
  const given = address.slice(at + 1).replace(/\.$/, '');
  let local = address.slice(0, at);
  let domain = given;
  if (/[^\x00-\x7f]/.test(address)) {
    local = local.normalize('NFC');
    domain = given.normalize('NFC');
    domain = toAsciiDomain(domain) ?? domain;
  }
  local = local.toLowerCase();
  domain = domain.toLowerCase();
  domain = aliasDomains.get(domain) ?? domain;
  if (dropsTags.has(domain)) local = local.replace(/(?!^)\+.*$/, '');
  if (ignoresDots.has(domain)) local = local.replaceAll('.', '');
  return `${local}@${domain}`;
}

/** Whether two addresses reach the same mailbox, as `mailboxKey` sees it. */
export function sameMailbox(a: string, b: string): boolean {
  return mailboxKey(a) === mailboxKey(b);
}

function addressSchema<Out>(convert: (addresses: EmailAddress[]) => Out | string) {
  return z.custom<AddressInput>().transform((input, context): Out => {
    const { addresses, problems } = readAddresses(input ?? []);
    const value =
      problems.length === 0 ? convert(addresses) : listProblems(problems.map(describeAddressProblem));
    if (typeof value !== 'string') return value;
    const params = { code: problems.length > 0 ? 'ADDRESS_INVALID' : 'INPUT_INVALID', problems };
    context.issues.push({ code: 'custom', message: value, input: undefined, params });
    return z.NEVER;
  });
}

/** Any number of addresses, in any {@link AddressInput} form. */
export const addressListSchema = addressSchema<readonly EmailAddress[]>((addresses) => addresses);

/** Exactly one address, in any {@link AddressInput} form. */
export const singleAddressSchema = addressSchema<EmailAddress>(
  (addresses) =>
    (addresses.length === 1 && addresses[0]) || `exactly one address is needed, not ${addresses.length}`,
);
