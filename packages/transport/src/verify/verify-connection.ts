import { type ConnectionInput, parseConnection } from '@flowpost/core';
import { asSmtpConnection } from '../connection-target.ts';
import { verifyGraph } from './verify-graph.ts';
import { verifySmtp } from './verify-smtp.ts';
import { Steps, type VerifyOptions, type VerifyReport } from './verify-steps.ts';

/**
 * Walks the way to a server step by step: DNS, TCP, TLS, EHLO, token, login, and whether it would take mail from the
 * connection's From address. Stops at the first failure, which says what is wrong and how to mend it. Sends nothing.
 *
 * @throws MailError `CONNECTION_INVALID` or `SERVICE_UNKNOWN`; what fails on the way is in
 * the report.
 */
export async function verifyConnection(
  connection: ConnectionInput,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const parsed = parseConnection(connection);
  const steps = new Steps(options.onStep);
  const isSmtp = parsed.kind === 'smtp' || parsed.delivery === 'smtp';
  if (isSmtp) await verifySmtp(parsed.kind === 'smtp' ? parsed : asSmtpConnection(parsed), options, steps);
  else await verifyGraph(parsed, options, steps);
  return steps.report();
}
