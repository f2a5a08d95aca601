import { readTokenClaims } from '@flowpost/auth-providers';
import {
  type Login,
  type MailError,
  type Phase,
  type SmtpConnection,
  sameMailbox,
  systemClock,
} from '@flowpost/core';
import { resolveServer } from '../connection-target.ts';
import { loginProvider, shownUser } from '../sending.ts';
import { describeCertificate, interceptor } from '../smtp/certificate-details.ts';
import type { SmtpSessionOptions } from '../smtp/session-contract.ts';
import { authFor } from '../smtp/smtp-sender.ts';
import { SmtpSession } from '../smtp/smtp-session.ts';
import { exchangeMisfit, hasExchangeRights, withExchangeCommands } from './exchange-commands.ts';
import { verifyOpening } from './verify-opening.ts';
import type { Steps, VerifyOptions } from './verify-steps.ts';

/** Opens a session and says what came of name, connection, TLS and EHLO. */
async function verifyGreeting(
  options: SmtpSessionOptions,
  steps: Steps,
  signal: AbortSignal | undefined,
): Promise<SmtpSession | undefined> {
  const way = {
    ...{ endpoint: options, mode: options.tls },
    // Only what was shown once can be shown again.
    seen: async ({ code }: MailError) =>
      /^TLS_(?:CERTIFICATE|FINGERPRINT)_/.test(code) ? seenCertificate(options, signal) : {},
    open: (onPhase: (phase: Phase) => void) => SmtpSession.connect({ ...options, onPhase }, signal),
    socketOf: (session: SmtpSession) => session.encrypted,
  };
  const { opened: session, times } = (await verifyOpening(way, steps, signal)) ?? {};
  if (!session || !times) return undefined;
  const extensions = [...session.extensions].map(([keyword, words]) => [keyword, ...words].join(' '));
  const size = Number(session.extensions.get('SIZE')?.[0]) || undefined;
  steps.add('ehlo', {
    status: 'ok',
    ms: times.ms('greeting'),
    message: `offers ${extensions.join(', ') || 'nothing'}`,
    details: { extensions, ...(size !== undefined && { messageBytes: size }) },
  });
  return session;
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

/** The last moment that a `Date` can be (ECMA-262 section 21.4.1.1), in Unix milliseconds. */
const latestDate = 8.64e15;

/** What may be said of a token: who it is for, what it permits, when it ends. */
export function describeToken(login: Login & { readonly kind: 'bearer' }, now: number) {
  const { aud, roles, scp, appid, exp } = readTokenClaims(login.token) ?? {};
  const endsAt = login.expiresAt ?? (typeof exp === 'number' ? exp * 1_000 : undefined);
  // Some issuers say "never" with a number that no date reaches.
  const expiresAt = endsAt !== undefined && Math.abs(endsAt) <= latestDate ? endsAt : undefined;
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
  const session = await verifyGreeting(
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
      login = await loginProvider(auth, options).login(signal);
      if (login.kind !== 'bearer') return { status: 'skipped', message: 'a password needs none' };
      const hint = exchangeMisfit(login, hasExchangeRights(auth));
      return { status: 'ok', ...describeToken(login, clock.now()), ...(hint !== undefined && { hint }) };
    });
    if (!gotLogin) return;
    const loggedIn = await steps.run('auth', async () => {
      if (!login) return { status: 'skipped', message: 'no credentials' };
      await session.login(signal, login).catch((error) => {
        throw login ? withExchangeCommands(error, login, hasExchangeRights(auth)) : error;
      });
      return { status: 'ok', message: `logged in as ${shownUser(login)}${isToken ? ' with a token' : ''}` };
    });
    if (!loggedIn) return;
    await steps.run('sender', async () => {
      const user = login?.username.includes('@') ? login.username : undefined;
      const from = connection.from?.address ?? user;
      if (from === undefined) return { status: 'skipped', message: 'the connection has no From address' };
      await session.askSender(from, signal);
      // Postfix says so at the recipients, Exchange after the message, and neither before.
      const isOwn = user !== undefined && sameMailbox(user, from);
      const hint =
        user === undefined
          ? 'It may still refuse recipients or the message, as servers do without a login.'
          : `It may still refuse recipients or the message itself, unless ${user} may send as ${from}.`;
      return { status: 'ok', message: `the server did not refuse ${from}`, ...(!isOwn && { hint }) };
    });
  } finally {
    // Who has given up does not wait for the answer to QUIT.
    if (signal?.aborted) session.leave();
    else await session.close();
  }
}
