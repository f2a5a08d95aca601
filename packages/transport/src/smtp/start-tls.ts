import { connectionError, connectionFailure } from '../diagnosis/connection-failure.ts';
import type { Extensions } from './extensions.ts';
import { handshaken, loadTls } from './open-socket.ts';
import type { SmtpSessionOptions } from './session-contract.ts';
import { describeLoss, type FailureContext } from './session-failure.ts';
import type { SmtpChannel } from './smtp-channel.ts';
import { tlsConnectOptions } from './tls-settings.ts';

/**
 * Upgrades a channel to TLS (RFC 3207). What was said in clear counts for nothing afterwards, and nothing may have been
 * said too early.
 *
 * @returns whether it was upgraded; it is not where the server does not offer it and it is not required.
 * @throws MailError with phase `tls`.
 */
export async function startTls(
  channel: SmtpChannel,
  extensions: Extensions,
  options: SmtpSessionOptions,
  context: FailureContext,
): Promise<boolean> {
  const { host, tls: mode, timeouts, tlsOptions } = options;
  if (!extensions.has('STARTTLS')) {
    if (mode !== 'starttls') return false;
    throw connectionError('TLS_NOT_OFFERED', 'tls', context, {
      message: 'the server does not offer STARTTLS',
    });
  }
  // Before the server is asked: what it says after its reply must not come in between.
  const [{ connect }, settings] = await Promise.all([loadTls(), tlsConnectOptions(host, tlsOptions)]);
  options.onPhase?.('tls');
  channel.send('STARTTLS\r\n');
  const reply = await channel.read(timeouts.commandMs).catch((cause) => {
    throw describeLoss(cause, 'tls', context);
  });
  if (reply.code !== 220) {
    const retryable = reply.code >= 400 && reply.code < 500;
    const text = context.scrub(reply.text);
    throw connectionError('TLS_NOT_OFFERED', 'tls', context, {
      message: `the server offers STARTTLS and refused it: ${text}`,
      hint: retryable
        ? 'Try again later. If it stays so, the TLS of the server is broken: tell its operator.'
        : 'The TLS of the server is broken: tell its operator. Until then use the port with implicit TLS (465), if there is one.',
      details: { reply: text },
      retryable,
    });
  }
  if (channel.hasUnread) {
    throw connectionError('TLS_INJECTION', 'tls', context, {
      message: 'bytes in clear came in after the server had agreed to TLS',
    });
  }
  const secure = connect({ ...settings, socket: channel.release() });
  const fail = (cause: unknown) => {
    const failure = connectionFailure(cause, 'tls', context);
    if (failure.code !== 'TLS_WRONG_MODE') return failure;
    return connectionError('TLS_FAILED', 'tls', context, {
      message: 'the server agreed to STARTTLS and then did not speak TLS',
      details: { reason: failure.details.reason },
      cause,
    });
  };
  await handshaken(secure, timeouts.greetingMs, fail, context.signal);
  channel.attach(secure);
  return true;
}
