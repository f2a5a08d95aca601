import { createAuthProvider, readTokenClaims } from '@flowpost/auth-providers';
import {
  type ConnectionInput,
  cancellationOf,
  type Login,
  MailError,
  type Phase,
  parseConnection,
  type SmtpConnection,
  systemClock,
  toMailError,
} from '@flowpost/core';
import { describeCertificate, interceptor } from '../smtp/certificate-details.ts';
import type { SmtpSessionOptions } from '../smtp/session-contract.ts';
import { authFor, resolveServer, type SenderOptions } from '../smtp/smtp-sender.ts';
import { SmtpSession } from '../smtp/smtp-session.ts';
import {
  PhaseTimes,
  Steps,
  type VerifyReport,
  type VerifyStep,
  type VerifyStepName,
} from './verify-steps.ts';

export interface VerifyOptions extends SenderOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told of each step as soon as its outcome is known. */
  readonly onStep?: ((step: VerifyStep) => void) | undefined;
}

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
    failure = toMailError(signal?.aborted ? new MailError(cancellationOf(signal).code, 'Cancelled.') : error);
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
  if (goesOn && failed !== 'tls') addTls(steps, options, session, times.ms('tls'));
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

function addTls(
  steps: Steps,
  options: SmtpSessionOptions,
  session: SmtpSession | undefined,
  ms: number,
): void {
  const socket = session?.encrypted;
  if (!socket) {
    const hint = 'The connection is not encrypted. Set tls to starttls or implicit where the server can.';
    steps.add('tls', {
      status: 'skipped',
      ms,
      message: 'not encrypted',
      ...(options.tls !== 'none' && { hint }),
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
    message: `${options.tls === 'implicit' ? 'implicit TLS' : 'STARTTLS'}, ${protocol}, certificate for ${certificate.subject} by ${certificate.issuer}, ${certificate.daysLeft} days left`,
    ...(hint !== undefined && { hint }),
    details: { mode: options.tls, protocol, certificate },
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
    const session = await SmtpSession.connect({ ...options, tlsOptions }, signal);
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
function describeToken(login: Login & { readonly kind: 'bearer' }, now: number) {
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

async function verifySmtp(connection: SmtpConnection, options: VerifyOptions, steps: Steps): Promise<void> {
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
    },
    steps,
    signal,
  );
  if (!session) return;
  const timed = async (step: VerifyStepName, work: () => Promise<Omit<VerifyStep, 'step' | 'ms'>>) => {
    const start = performance.now();
    try {
      const outcome = await work();
      steps.add(step, { ms: performance.now() - start, ...outcome });
      return true;
    } catch (error) {
      steps.fail(step, error, performance.now() - start);
      return false;
    }
  };
  try {
    let login: Login | undefined;
    const auth = connection.auth && authFor(connection.auth, server.host);
    const isToken = auth !== undefined && auth.kind !== 'basic';
    const gotLogin = await timed('token', async () => {
      if (!auth) return { status: 'skipped', message: 'no credentials' };
      const provider = createAuthProvider(auth, {
        ...options.auth,
        secretBox: options.secretBox,
        logger: options.logger,
      });
      login = await provider.login(signal);
      if (login.kind !== 'bearer') return { status: 'skipped', message: 'a password needs none' };
      return { status: 'ok', ...describeToken(login, clock.now()) };
    });
    if (!gotLogin) return;
    const loggedIn = await timed('auth', async () => {
      if (!login) return { status: 'skipped', message: 'no credentials' };
      await session.login(signal, login);
      return { status: 'ok', message: `logged in as ${login.username}${isToken ? ' with a token' : ''}` };
    });
    if (!loggedIn) return;
    await timed('sender', async () => {
      const from = connection.from?.address ?? (login?.username.includes('@') ? login.username : undefined);
      if (from === undefined) return { status: 'skipped', message: 'the connection has no From address' };
      await session.askSender(from, signal);
      return { status: 'ok', message: `the server takes mail from ${from}` };
    });
  } finally {
    await session.close();
  }
}

/**
 * Walks the way to a server step by step: DNS, TCP, TLS, EHLO, token, login, and whether it would take mail from the
 * connection's From address. Stops at the first failure, which says what is wrong and how to mend it. Sends nothing.
 *
 * @throws MailError `CONNECTION_INVALID`, `SERVICE_UNKNOWN` or `CONNECTION_KIND_UNAVAILABLE`; what fails on the way is in
 * the report.
 */
export async function verifyConnection(
  connection: ConnectionInput,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const parsed = parseConnection(connection);
  const steps = new Steps(options.onStep);
  if (parsed.kind !== 'smtp') {
    throw new MailError(
      'CONNECTION_KIND_UNAVAILABLE',
      `Connections of kind ${parsed.kind} cannot be verified yet.`,
    );
  }
  await verifySmtp(parsed, options, steps);
  return steps.report();
}
