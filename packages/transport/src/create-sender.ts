import { exchangeScopeAt } from '@flowpost/auth-providers';
import {
  type Connection,
  type ConnectionInput,
  type MailSender,
  type Microsoft365Connection,
  parseConnection,
  type SmtpConnection,
} from '@flowpost/core';
import { GraphSender, graphCredential } from './graph/graph-sender.ts';
import { type SenderOptions, SmtpSender } from './smtp/smtp-sender.ts';

/** What a Microsoft 365 connection is for delivery over SMTP: an SMTP connection with a token. */
export function asSmtpConnection(connection: Microsoft365Connection): SmtpConnection {
  const { host = 'smtp.office365.com', port = 587, tlsOptions, timeouts, from, limits } = connection;
  return {
    kind: 'smtp',
    protocol: 'smtp',
    host,
    port,
    tls: 'auto',
    auth: graphCredential(connection, exchangeScopeAt(host)),
    allowPlaintextAuth: false,
    pipelining: 'across-messages',
    timeouts,
    ...(tlsOptions && { tlsOptions }),
    ...(from && { from }),
    ...(limits && { limits }),
  };
}

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
