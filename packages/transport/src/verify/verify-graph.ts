import { createAuthProvider } from '@flowpost/auth-providers';
import { type Login, MailError, type Microsoft365Connection, systemClock } from '@flowpost/core';
import { graphBaseUrl, graphCredential } from '../graph/graph-sender.ts';
import { openSocket } from '../smtp/open-socket.ts';
import { tlsConnectOptions } from '../smtp/tls-settings.ts';
import { addTls, describeToken } from './verify-smtp.ts';
import { PhaseTimes, type Steps, type VerifyOptions } from './verify-steps.ts';

/** What Graph needs to be in a token before it sends mail. */
const sendPermissions = ['Mail.Send', 'Application Mail.Send'];

/** The way to Microsoft Graph: name, connection, TLS, and a token that may send. Whether it may as this user only a send tells. */
export async function verifyGraph(
  connection: Microsoft365Connection,
  options: VerifyOptions,
  steps: Steps,
): Promise<void> {
  const { signal, lookup, clock = systemClock } = options;
  const url = new URL(connection.graphBaseUrl ?? graphBaseUrl);
  const isTls = url.protocol === 'https:';
  const host = url.hostname;
  const port = Number(url.port) || (isTls ? 443 : 80);
  const { connectMs, greetingMs } = connection.timeouts;
  const times = new PhaseTimes();
  try {
    const tls = isTls ? tlsConnectOptions(host) : undefined;
    const reach = { host, port, lookup, connectMs, handshakeMs: greetingMs, signal, onPhase: times.enter };
    const socket = await openSocket({ ...reach, tls });
    times.stop();
    steps.add('dns', { status: 'ok', ms: times.ms('resolve'), message: `${host} was found` });
    steps.add('tcp', { status: 'ok', ms: times.ms('connect'), message: `port ${port} answers` });
    addTls(steps, isTls ? 'implicit' : 'none', socket, times.ms('tls'));
    socket.destroy();
  } catch (error) {
    times.stop();
    const { phase } = error as MailError;
    if (phase !== 'resolve')
      steps.add('dns', { status: 'ok', ms: times.ms('resolve'), message: `${host} was found` });
    if (phase === 'tls')
      steps.add('tcp', { status: 'ok', ms: times.ms('connect'), message: `port ${port} answers` });
    steps.fail(phase === 'tls' ? 'tls' : phase === 'resolve' ? 'dns' : 'tcp', error, times.ms(phase));
    return;
  }
  steps.add('ehlo', { status: 'skipped', message: 'Graph is no SMTP server' });
  let login: Login | undefined;
  const hasToken = await steps.run('token', async () => {
    const auth = graphCredential(connection, `${url.origin}/.default`);
    const provider = createAuthProvider(auth, { ...options.auth, secretBox: options.secretBox });
    login = await provider.login(signal);
    if (login.kind !== 'bearer')
      throw new MailError('CONNECTION_INVALID', 'Graph takes tokens, not passwords.');
    return { status: 'ok', ...describeToken(login, clock.now()) };
  });
  if (!hasToken || login?.kind !== 'bearer') return;
  const { permissions } = describeToken(login, clock.now()).details;
  await steps.run('auth', async () => {
    if (permissions.length === 0)
      return { status: 'skipped', message: 'the token does not say what it permits' };
    if (permissions.some((one) => sendPermissions.includes(String(one)))) {
      return { status: 'ok', message: 'the token permits Mail.Send' };
    }
    throw new MailError('GRAPH_PERMISSION_MISSING', 'The token does not permit Mail.Send.', {
      phase: 'auth',
      details: { permission: 'Mail.Send', permissions },
    });
  });
}
