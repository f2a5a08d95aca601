import { type Connection, type ConnectionInput, type MailSender, parseConnection } from '@flowpost/core';
import { asSmtpConnection } from './connection-target.ts';
import { GraphSender } from './graph/graph-sender.ts';
import type { SenderOptions } from './sending.ts';
import { SmtpSender } from './smtp/smtp-sender.ts';

function senderFor(connection: Connection, options: SenderOptions): MailSender {
  if (connection.kind === 'smtp') return new SmtpSender(connection, options);
  if (connection.delivery === 'smtp') return new SmtpSender(asSmtpConnection(connection), options);
  return new GraphSender(connection, options);
}

/**
 * The sender for a connection. It opens sessions when it needs them, keeps them for further sends, and closes them
 * when disposed (`await using`).
 *
 * @throws MailError `CONNECTION_INVALID` or `SERVICE_UNKNOWN`.
 */
export function createSender(connection: ConnectionInput, options: SenderOptions = {}): MailSender {
  return senderFor(parseConnection(connection), options);
}
