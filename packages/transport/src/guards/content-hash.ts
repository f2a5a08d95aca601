import { createHash, hash } from 'node:crypto';
import { type AddressInput, type EmailMessageInput, parseAddresses } from '@flowpost/core';

/** A mailbox written in one way. */
function mailbox({ name = '', address }: { readonly name?: string; readonly address: string }): string {
  const at = address.lastIndexOf('@');
  return `${address.slice(0, at)}${address.slice(at).toLowerCase()} ${name}`;
}

const mailboxes = (input: AddressInput | undefined): string[] =>
  input === undefined ? [] : parseAddresses(input).map(mailbox).sort();

/** The same JSON for the same value, in whatever order its fields come. */
function stable(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (value instanceof Uint8Array) return createHash('sha256').update(value).digest('base64');
  if (Array.isArray(value)) return value.map(stable);
  // Without a prototype, so that no name of a field means anything.
  const sorted: Record<string, unknown> = Object.create(null);
  for (const key of Object.keys(value).sort()) {
    const one = (value as Record<string, unknown>)[key];
    if (one !== undefined) sorted[key] = stable(one);
  }
  return sorted;
}

/**
 * What a message says, as a hash: the same for the same content in whatever order its fields, recipients and headers come.
 * Message-ID and Date do not count, since they differ each time.
 *
 * @param beside what counts too, such as who sends it.
 * @throws MailError `ADDRESS_INVALID`.
 */
export function contentHash(message: EmailMessageInput, beside: readonly string[] = []): string {
  const { to, cc, bcc, messageId: _, date: __, ...rest } = message;
  const content = [mailboxes(to), mailboxes(cc), mailboxes(bcc), stable(rest), beside];
  return hash('sha256', JSON.stringify(content), 'base64url');
}
