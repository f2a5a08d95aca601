import { createHash, hash } from 'node:crypto';
import { type AddressInput, type EmailMessageInput, parseAddresses } from '@flowpost/core';

/** A mailbox written in one way. */
function mailbox({ name = '', address }: { readonly name?: string; readonly address: string }): string {
  const at = address.lastIndexOf('@');
  return `${address.slice(0, at)}${address.slice(at).toLowerCase()} ${name}`;
}

const mailboxes = (input: AddressInput | undefined): string[] =>
  input === undefined ? [] : parseAddresses(input).map(mailbox).sort();

/**
 * The same text for the same value, in whatever order its fields come, and another one for every other: each text in it
 * says how long it is, so none can pass for something else.
 */
function canonical(value: unknown): string {
  if (typeof value === 'string') return `${value.length}:${value}`;
  if (typeof value !== 'object' || value === null || value instanceof Date)
    return `#${JSON.stringify(value)};`;
  if (value instanceof Uint8Array) return `b${createHash('sha256').update(value).digest('base64')}`;
  if (Array.isArray(value)) return `[${value.map(canonical).join('')}]`;
  return `{${fieldsOf(value as Record<string, unknown>)}}`;
}

function fieldsOf(value: Readonly<Record<string, unknown>>, but?: ReadonlySet<string>): string {
  let fields = '';
  for (const key of Object.keys(value).sort()) {
    const one = but?.has(key) ? undefined : value[key];
    if (one !== undefined) fields += canonical(key) + canonical(one);
  }
  return fields;
}

/** Recipients are compared in a way of their own; what differs each time is not compared. */
const apart: ReadonlySet<string> = new Set(['to', 'cc', 'bcc', 'messageId', 'date']);

/**
 * What a message says, as a hash: the same for the same content in whatever order its fields, recipients and headers come.
 * Message-ID and Date do not count, since they differ each time.
 *
 * @param beside what counts too, such as who sends it.
 * @throws MailError `ADDRESS_INVALID`.
 */
export function contentHash(message: EmailMessageInput, beside: readonly string[] = []): string {
  const { to, cc, bcc } = message;
  const recipients = canonical([mailboxes(to), mailboxes(cc), mailboxes(bcc)]);
  return hash('sha256', `${recipients}{${fieldsOf(message, apart)}}${canonical(beside)}`, 'base64url');
}
