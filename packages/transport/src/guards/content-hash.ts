import { createHash, hash } from 'node:crypto';
import { types } from 'node:util';
import {
  type AddressInput,
  addressKey,
  type EmailAddress,
  emailMessageSchema,
  type OutgoingMessage,
  parseAddresses,
} from '@flowpost/core';

/** A mailbox written in one way. */
const mailbox = ({ name = '', address }: EmailAddress): string => `${addressKey(address)} ${name}`;

function mailboxes(input: AddressInput | undefined): string {
  if (input === undefined) return '[]';
  const found = parseAddresses(input).map(mailbox);
  return list(found.length > 1 ? found.sort() : found);
}

/** Bytes that are not held, as what they are compared by. */
export class ContentDigest {
  readonly sha256: string;

  constructor(sha256: string) {
    this.sha256 = sha256;
  }

  static async of(chunks: AsyncIterable<Uint8Array>): Promise<ContentDigest> {
    const digest = createHash('sha256');
    for await (const chunk of chunks) digest.update(chunk);
    return new ContentDigest(digest.digest('base64'));
  }
}

/**
 * The same text for the same value, in whatever order its fields come, and another one for every other: each text in it
 * says how long it is, so none can pass for something else.
 */
function canonical(value: unknown): string {
  if (typeof value === 'string') return `${value.length}:${value}`;
  if (typeof value !== 'object' || value === null || types.isDate(value)) return `#${JSON.stringify(value)};`;
  if (types.isUint8Array(value)) return `b${hash('sha256', value, 'base64')}`;
  if (value instanceof ContentDigest) return `b${value.sha256}`;
  if (Array.isArray(value)) return list(value);
  const record = value as Record<string, unknown>;
  return `{${fieldsOf(record, Object.keys(record).sort())}}`;
}

function list(values: readonly unknown[]): string {
  let items = '';
  for (const value of values) items += canonical(value);
  return `[${items}]`;
}

/** What counts as not given: as its default is. */
const isDefault = (name: string, value: unknown): boolean =>
  value === undefined || (name === 'subject' && value === '') || (Array.isArray(value) && value.length === 0);

function fieldsOf(value: Readonly<Record<string, unknown>>, names: readonly string[]): string {
  let fields = '';
  for (const name of names) {
    const one = value[name];
    if (!isDefault(name, one)) fields += canonical(name) + canonical(one);
  }
  return fields;
}

/** Names of header fields are the same in any case (RFC 5322 section 1.2.2). */
function headerFields(headers: OutgoingMessage['headers']): string {
  if (!headers) return '';
  const fields = Object.entries(headers).map(([name, value]) => canonical([name.toLowerCase(), value]));
  return fields.sort().join('');
}

/**
 * Who writes and who gets it is compared in a way of its own; what differs each time is not compared, nor what the
 * message says of its origin, which differs with what started the flow.
 */
const apart: ReadonlySet<string> = new Set(
  'to cc bcc from sender replyTo headers priority messageId date autoSubmitted'.split(' '),
);
const compared = Object.keys(emailMessageSchema.shape)
  .filter((name) => !apart.has(name))
  .sort();

/**
 * What a message says, as a hash: the same for the same content in whatever order its fields, recipients and headers come.
 * Message-ID and Date do not count, since they differ each time, nor does Auto-Submitted.
 *
 * @param beside what counts too, such as who sends it.
 * @throws MailError `ADDRESS_INVALID`.
 */
export function contentHash(message: OutgoingMessage, beside: readonly string[] = []): string {
  const { from, sender, replyTo, to, cc, bcc, headers, priority = 'normal' } = message;
  const people = [to, cc, bcc, from, sender, replyTo].map(mailboxes).join('');
  const fields = `${headerFields(headers)}{${fieldsOf(message, compared)}}`;
  return hash('sha256', `[${people}]${priority}${fields}${list(beside)}`, 'base64url');
}
