import { type ConnectionInput, MailError, type MailSender, parseConnection } from '@flowpost/core';
import { type SenderOptions, SmtpSender } from './smtp/smtp-sender.ts';

/**
 * The sender for a connection. It opens sessions when it needs them, keeps them for further sends, and closes them
 * when disposed (`await using`).
 *
 * @throws MailError `CONNECTION_INVALID`, `SERVICE_UNKNOWN`, or one of the `_UNAVAILABLE` codes.
 */
export function createSender(connection: ConnectionInput, options: SenderOptions = {}): MailSender {
  const parsed = parseConnection(connection);
  if (parsed.kind === 'smtp') return new SmtpSender(parsed, options);
  throw new MailError(
    'CONNECTION_KIND_UNAVAILABLE',
    'Connections of kind microsoft365 are not available in this version.',
    {
      details: { kind: parsed.kind },
    },
  );
}
