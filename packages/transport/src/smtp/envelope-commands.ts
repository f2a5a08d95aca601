import { MailError, needsSmtpUtf8, toWireAddress } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import type { Extensions } from './extensions.ts';
import type { DeliverOptions } from './session-contract.ts';

/** RFC 3461 section 4: what cannot stand in a parameter is written as + and two hexadecimal digits. */
const xtext = (text: string): string =>
  text.replace(/[^!-*,-<>-~]/g, (char) =>
    [...Buffer.from(char)].map((byte) => `+${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );

/** The address a notification is about: in ASCII (RFC 3461 section 4.2), or as RFC 6533 section 3 writes all others. */
function originalRecipient(address: string): string {
  if (/^[\x00-\x7f]*$/.test(address)) return `rfc822;${xtext(address)}`;
  const escaped = address.replace(
    /[^!-*,-<>-[\]-~]/gu,
    (char) => `\\x{${char.codePointAt(0)?.toString(16).toUpperCase().padStart(2, '0')}}`,
  );
  return `utf-8;${escaped}`;
}

/** The last gate before the wire: whatever path an address took, it is one address and no command. */
function wireAddress(address: string): string {
  if (!/[\x00-\x1f\x7f<>]/.test(address)) return address;
  throw new MailError('ADDRESS_INVALID', 'An address cannot be written: it holds what ends a command.', {
    phase: 'envelope',
  });
}

/** MAIL FROM for an address about which is only asked. */
export function senderCommand(address: string): string {
  return `MAIL FROM:<${wireAddress(toWireAddress(address))}>${needsSmtpUtf8(address) ? ' SMTPUTF8' : ''}\r\n`;
}

/** MAIL FROM with the parameters the server knows: SIZE, BODY, SMTPUTF8, REQUIRETLS, RET and ENVID. */
export function mailCommand(
  { envelope, sizeBytes }: ComposedMessage,
  extensions: Extensions,
  { dsn, requireTls }: Pick<DeliverOptions, 'dsn' | 'requireTls'>,
): string {
  let command = `MAIL FROM:<${wireAddress(envelope.from)}>`;
  if (extensions.has('SIZE')) command += ` SIZE=${sizeBytes}`;
  // Everything is 7 bit but for addresses, and those come with this pair (RFC 6531 section 3.4).
  if (envelope.smtpUtf8) command += `${extensions.has('8BITMIME') ? ' BODY=8BITMIME' : ''} SMTPUTF8`;
  if (requireTls) command += ' REQUIRETLS';
  if (dsn && extensions.has('DSN')) {
    if (dsn.return) command += ` RET=${dsn.return === 'full' ? 'FULL' : 'HDRS'}`;
    if (dsn.envelopeId) command += ` ENVID=${xtext(dsn.envelopeId)}`;
  }
  return `${command}\r\n`;
}

/** RCPT TO, with what the recipient's notifications should be. */
function rcptCommand(to: string, extensions: Extensions, { dsn }: Pick<DeliverOptions, 'dsn'>): string {
  if (!dsn?.notify || !extensions.has('DSN')) return `RCPT TO:<${wireAddress(to)}>\r\n`;
  const notify = dsn.notify === 'never' ? 'NEVER' : dsn.notify.map((one) => one.toUpperCase()).join(',');
  return `RCPT TO:<${wireAddress(to)}> NOTIFY=${notify} ORCPT=${originalRecipient(to)}\r\n`;
}

/** What is said before DATA. */
export interface EnvelopeCommands {
  readonly reset: string;
  readonly mail: string;
  readonly rcpts: readonly string[];
}

/** @param isBegunAnew whether a transaction was broken off before, so that this one begins with RSET. */
export const envelopeCommands = (
  message: ComposedMessage,
  extensions: Extensions,
  options: Pick<DeliverOptions, 'dsn' | 'requireTls'>,
  isBegunAnew: boolean,
): EnvelopeCommands => ({
  reset: isBegunAnew ? 'RSET\r\n' : '',
  mail: mailCommand(message, extensions, options),
  rcpts: message.envelope.to.map((to) => rcptCommand(to, extensions, options)),
});
