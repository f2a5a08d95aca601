import { type ConnectionInput, type MailSender, parseConnection } from '@flowpost/core';
import { asSmtpConnection } from './connection-target.ts';
import { GraphSender } from './graph/graph-sender.ts';
import type { SenderOptions } from './sending.ts';
import { SmtpSender } from './smtp/smtp-sender.ts';

/**
 * The sender for a connection. It opens sessions when it needs them, keeps them for further sends, and closes them
 * when disposed (`await using`).
 *
 * @throws MailError `CONNECTION_INVALID` or `SERVICE_UNKNOWN`.
 */
export function createSender(input: ConnectionInput, options: SenderOptions = {}): MailSender {
  const connection = parseConnection(input);
  if (connection.kind === 'smtp') return new SmtpSender(connection, options);
  if (connection.delivery === 'smtp') return new SmtpSender(asSmtpConnection(connection), options);
  return new GraphSender(connection, options);
}
