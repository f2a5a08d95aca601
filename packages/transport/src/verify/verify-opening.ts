import type { Socket } from 'node:net';
import { cancellationOf, MailError, type Phase, toMailError } from '@flowpost/core';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import { describeCertificate, interceptor } from '../smtp/certificate-details.ts';
import { isTlsSocket } from '../smtp/open-socket.ts';
import type { SmtpSessionOptions } from '../smtp/session-contract.ts';
import { PhaseTimes, type Steps, type VerifyStepName } from './verify-steps.ts';

const stepOf: Partial<Record<Phase, VerifyStepName>> = {
  resolve: 'dns',
  connect: 'tcp',
  tls: 'tls',
  greeting: 'ehlo',
};
/** A certificate that ends this soon is worth a word. */
const soonDays = 21;

const nameOf = (mode: SmtpSessionOptions['tls']): string =>
  mode === 'implicit' ? 'implicit TLS' : 'STARTTLS';

export interface Opening<Opened> {
  readonly endpoint: Endpoint;
  readonly mode: SmtpSessionOptions['tls'];
  open(onPhase: (phase: Phase) => void): Promise<Opened>;
  /** The encrypted socket, where there is one. */
  socketOf(opened: Opened): Socket | undefined;
  /** What else is known when TLS failed. */
  seen?(failure: MailError): Promise<Record<string, unknown>>;
}

/** Opens what is to be opened, and says what came of name, connection and TLS; nothing when one of them failed. */
export async function verifyOpening<Opened>(
  { endpoint, mode, open, socketOf, seen }: Opening<Opened>,
  steps: Steps,
  signal: AbortSignal | undefined,
): Promise<{ readonly opened: Opened; readonly times: PhaseTimes } | undefined> {
  const times = new PhaseTimes();
  let opened: Opened | undefined;
  let failure: MailError | undefined;
  try {
    opened = await open(times.enter);
  } catch (error) {
    const { code } = cancellationOf(signal);
    const message = code === 'SEND_TIMED_OUT' ? 'The time allowed ran out.' : 'Cancelled.';
    failure = signal?.aborted ? new MailError(code, message, { phase: times.last }) : toMailError(error);
  }
  times.stop();
  const failed = failure && (stepOf[failure.phase] ?? 'dns');
  const { host, port } = endpoint;
  const passed = (step: VerifyStepName, phase: Phase, message: string): boolean => {
    if (step === failed) return false;
    steps.add(step, { status: 'ok', ms: times.ms(phase), message });
    return true;
  };
  const goesOn =
    passed('dns', 'resolve', `${host} was found`) && passed('tcp', 'connect', `port ${port} answers`);
  const ms = times.ms('tls');
  if (goesOn && failed !== 'tls') {
    // What failed later has no socket to look at any more, but was encrypted all the same.
    if (opened !== undefined || mode === 'none') addTls(steps, mode, opened && socketOf(opened), ms);
    else if (times.entered('tls')) steps.add('tls', { status: 'ok', ms, message: nameOf(mode) });
  }
  if (opened !== undefined && !failure) return { opened, times };
  const more = failure && failed === 'tls' ? await seen?.(failure) : undefined;
  steps.fail(failed ?? 'dns', failure, times.ms(failure?.phase ?? 'resolve'), more);
  return undefined;
}

function addTls(steps: Steps, mode: SmtpSessionOptions['tls'], socket: Socket | undefined, ms: number): void {
  if (!isTlsSocket(socket)) {
    const hint = 'The connection is not encrypted. Set tls to starttls or implicit where the server can.';
    steps.add('tls', {
      status: 'skipped',
      ms,
      message: 'not encrypted',
      ...(mode !== 'none' && { hint }),
    });
    return;
  }
  const certificate = describeCertificate(socket);
  const protocol = socket.getProtocol();
  const between = interceptor(certificate.issuer);
  const hint = between
    ? `${between} stands between you and the server and reads along; its authority is trusted on this machine.`
    : certificate.daysLeft < soonDays
      ? `The server's certificate ends in ${certificate.daysLeft} days. Tell its operator.`
      : undefined;
  steps.add('tls', {
    status: 'ok',
    ms,
    message: `${nameOf(mode)}, ${protocol}, certificate for ${certificate.subject} by ${certificate.issuer}, ${certificate.daysLeft} days left`,
    ...(hint !== undefined && { hint }),
    details: { mode, protocol, certificate },
  });
}
