import { createHash, hash } from 'node:crypto';
import {
  type AddressInput,
  type EmailMessageInput,
  emailMessageSchema,
  parseAddresses,
} from '@flowpost/core';

/** A mailbox written in one way. */
function mailbox({ name = '', address }: { readonly name?: string; readonly address: string }): string {
  const at = address.lastIndexOf('@');
  return `${address.slice(0, at)}${address.slice(at).toLowerCase()} ${name}`;
}

function mailboxes(input: AddressInput | undefined): string {
  if (input === undefined) return '[]';
  const found = parseAddresses(input).map(mailbox);
  return list(found.length > 1 ? found.sort() : found);
}

/**
 * The same text for the same value, in whatever order its fields come, and another one for every other: each text in it
 * says how long it is, so none can pass for something else.
 */
function canonical(value: unknown): string {
  if (typeof value === 'string') return `${value.length}:${value}`;
  if (typeof value !== 'object' || value === null || value instanceof Date)
    return `#${JSON.stringify(value)};`;
  if (value instanceof Uint8Array) return `b${createHash('sha256').update(value).digest('base64')}`;
  if (Array.isArray(value)) return list(value);
  const record = value as Record<string, unknown>;
  return `{${fieldsOf(record, Object.keys(record).sort())}}`;
}

function list(values: readonly unknown[]): string {
  let items = '';
  for (const value of values) items += canonical(value);
  return `[${items}]`;
}

function fieldsOf(value: Readonly<Record<string, unknown>>, names: readonly string[]): string {
  let fields = '';
  for (const name of names) {
    const one = value[name];
    if (one !== undefined) fields += canonical(name) + canonical(one);
  }
  return fields;
}

/** Recipients are compared in a way of their own; what differs each time is not compared. */
const apart: ReadonlySet<string> = new Set(['to', 'cc', 'bcc', 'messageId', 'date']);
const compared = Object.keys(emailMessageSchema.shape)
  .filter((name) => !apart.has(name))
  .sort();

/**
 * What a message says, as a hash: the same for the same content in whatever order its fields, recipients and headers come.
 * Message-ID and Date do not count, since they differ each time.
 *
 * @param beside what counts too, such as who sends it.
 * @throws MailError `ADDRESS_INVALID`.
 */
export function contentHash(message: EmailMessageInput, beside: readonly string[] = []): string {
  const recipients = `[${mailboxes(message.to)}${mailboxes(message.cc)}${mailboxes(message.bcc)}]`;
  return hash('sha256', `${recipients}{${fieldsOf(message, compared)}}${list(beside)}`, 'base64url');
}
