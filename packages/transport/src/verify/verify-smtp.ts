import type { Socket } from 'node:net';
import { createAuthProvider, readTokenClaims } from '@flowpost/auth-providers';
import {
  cancellationOf,
  type Login,
  MailError,
  type Phase,
  type SmtpConnection,
  sameMailbox,
  systemClock,
  toMailError,
} from '@flowpost/core';
import { describeCertificate, interceptor } from '../smtp/certificate-details.ts';
import { isTlsSocket } from '../smtp/open-socket.ts';
import type { SmtpSessionOptions } from '../smtp/session-contract.ts';
import { authFor, resolveServer } from '../smtp/smtp-sender.ts';
import { SmtpSession } from '../smtp/smtp-session.ts';
import { exchangeMisfit, withExchangeCommands } from './exchange-commands.ts';
import { PhaseTimes, type Steps, type VerifyOptions, type VerifyStepName } from './verify-steps.ts';

const stepOf: Partial<Record<Phase, VerifyStepName>> = {
  resolve: 'dns',
  connect: 'tcp',
  tls: 'tls',
  greeting: 'ehlo',
  token: 'token',
  auth: 'auth',
  envelope: 'sender',
};
/** A certificate that ends this soon is worth a word. */
const soonDays = 21;

/** Opens a session and says what came of name, connection, TLS and EHLO. */
async function verifyOpening(
  options: SmtpSessionOptions,
  steps: Steps,
  signal: AbortSignal | undefined,
): Promise<SmtpSession | undefined> {
  const times = new PhaseTimes();
  let session: SmtpSession | undefined;
  let failure: MailError | undefined;
  try {
    session = await SmtpSession.connect({ ...options, onPhase: times.enter }, signal);
  } catch (error) {
    failure = signal?.aborted
      ? new MailError(cancellationOf(signal).code, 'Cancelled.', { phase: times.last })
      : toMailError(error);
  }
  times.stop();
  const failed = failure && (stepOf[failure.phase] ?? 'dns');
  const { host, port } = options;
  const passed = (step: VerifyStepName, phase: Phase, message: string): boolean => {
    if (step === failed) return false;
    steps.add(step, { status: 'ok', ms: times.ms(phase), message });
    return true;
  };
  const goesOn =
    passed('dns', 'resolve', `${host} was found`) && passed('tcp', 'connect', `port ${port} answers`);
  if (goesOn && failed !== 'tls') addTls(steps, options.tls, session?.encrypted, times.ms('tls'));
  if (failure && failed) {
    const seen = failed === 'tls' ? await seenCertificate(options, signal) : {};
    steps.fail(failed, failure, times.ms(failure.phase), seen);
    return undefined;
  }
  const extensions = [...(session?.extensions ?? [])].map(([keyword, words]) =>
    [keyword, ...words].join(' '),
  );
  const size = Number(session?.extensions.get('SIZE')?.[0]) || undefined;
  steps.add('ehlo', {
    status: 'ok',
    ms: times.ms('greeting'),
    message: `offers ${extensions.join(', ') || 'nothing'}`,
    details: { extensions, ...(size !== undefined && { messageBytes: size }) },
  });
  return session;
}

export function addTls(
  steps: Steps,
  mode: SmtpSessionOptions['tls'],
  socket: Socket | undefined,
  ms: number,
): void {
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
    message: `${mode === 'implicit' ? 'implicit TLS' : 'STARTTLS'}, ${protocol}, certificate for ${certificate.subject} by ${certificate.issuer}, ${certificate.daysLeft} days left`,
    ...(hint !== undefined && { hint }),
    details: { mode, protocol, certificate },
  });
}

/** The certificate of a server whose TLS failed, looked at without trusting it; nothing is sent over that connection. */
async function seenCertificate(
  options: SmtpSessionOptions,
  signal: AbortSignal | undefined,
): Promise<Record<string, unknown>> {
  try {
    const tlsOptions = {
      ...options.tlsOptions,
      fingerprints: undefined,
      dangerouslyAcceptAnyCertificate: true,
    };
    const session = await SmtpSession.connect({ ...options, tlsOptions, transcript: undefined }, signal);
    const certificate = session.encrypted && describeCertificate(session.encrypted);
    session.destroy();
    if (!certificate) return {};
    const between = interceptor(certificate.issuer);
    return { certificate, ...(between && { interceptedBy: between }) };
  } catch {
    return {};
  }
}

/** What may be said of a token: who it is for, what it permits, when it ends. */
export function describeToken(login: Login & { readonly kind: 'bearer' }, now: number) {
  const { aud, roles, scp, appid, exp } = readTokenClaims(login.token) ?? {};
  const expiresAt = login.expiresAt ?? (typeof exp === 'number' ? exp * 1_000 : undefined);
  const permissions = [roles, typeof scp === 'string' ? scp.split(' ') : scp].flat().filter(Boolean);
  const minutes = expiresAt === undefined ? undefined : Math.round((expiresAt - now) / 60_000);
  return {
    message: `a token for ${aud ?? 'an unknown audience'}, permissions ${permissions.join(', ') || 'unknown'}${minutes === undefined ? '' : `, ${minutes} min left`}`,
    details: {
      ...(aud !== undefined && { audience: aud }),
      permissions,
      ...(appid !== undefined && { application: appid }),
      ...(expiresAt !== undefined && { expiresAt: new Date(expiresAt).toISOString() }),
    },
  };
}

export async function verifySmtp(
  connection: SmtpConnection,
  options: VerifyOptions,
  steps: Steps,
): Promise<void> {
  const { signal, clock = systemClock } = options;
  const server = resolveServer(connection);
  const { tlsOptions, timeouts, ehloName, allowPlaintextAuth, protocol } = connection;
  const session = await verifyOpening(
    {
      host: server.host,
      port: server.port,
      tls: server.tls,
      lmtp: protocol === 'lmtp',
      ...{ tlsOptions, timeouts, ehloName, allowPlaintextAuth, lookup: options.lookup },
      transcript: options.transcript,
    },
    steps,
    signal,
  );
  if (!session) return;
  try {
    let login: Login | undefined;
    const auth = connection.auth && authFor(connection.auth, server.host);
    const isToken = auth !== undefined && auth.kind !== 'basic';
    const gotLogin = await steps.run('token', async () => {
      if (!auth) return { status: 'skipped', message: 'no credentials' };
      const provider = createAuthProvider(auth, {
        ...options.auth,
        secretBox: options.secretBox,
        logger: options.logger,
      });
      login = await provider.login(signal);
      if (login.kind !== 'bearer') return { status: 'skipped', message: 'a password needs none' };
      const hint = exchangeMisfit(login);
      return { status: 'ok', ...describeToken(login, clock.now()), ...(hint !== undefined && { hint }) };
    });
    if (!gotLogin) return;
    const loggedIn = await steps.run('auth', async () => {
      if (!login) return { status: 'skipped', message: 'no credentials' };
      await session.login(signal, login).catch((error) => {
        throw login ? withExchangeCommands(error, login) : error;
      });
      return { status: 'ok', message: `logged in as ${login.username}${isToken ? ' with a token' : ''}` };
    });
    if (!loggedIn) return;
    await steps.run('sender', async () => {
      const user = login?.username.includes('@') ? login.username : undefined;
      const from = connection.from?.address ?? user;
      if (from === undefined) return { status: 'skipped', message: 'the connection has no From address' };
      await session.askSender(from, signal);
      // Exchange says so after the message, and not before.
      const hint = `It may still refuse the message itself, unless ${user} may send as ${from}.`;
      const isOther = user !== undefined && !sameMailbox(user, from);
      return { status: 'ok', message: `the server takes mail from ${from}`, ...(isOther && { hint }) };
    });
  } finally {
    await session.close();
  }
}
