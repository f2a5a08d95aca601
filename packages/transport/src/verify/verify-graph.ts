import type { Socket } from 'node:net';
import {
  type Login,
  MailError,
  type Microsoft365Connection,
  type Phase,
  portOf,
  systemClock,
  withoutBrackets,
} from '@flowpost/core';
import { graphCredential, graphUrlOf } from '../connection-target.ts';
import { loginProvider } from '../sending.ts';
import { openSocket } from '../smtp/open-socket.ts';
import { tlsConnectOptions } from '../smtp/tls-settings.ts';
import { exchangeAudience, hasExchangeRights } from './exchange-commands.ts';
import { verifyOpening } from './verify-opening.ts';
import { describeToken } from './verify-smtp.ts';
import type { Steps, VerifyOptions } from './verify-steps.ts';

/** What Graph needs to be in a token before it sends mail. */
const sendPermissions = ['Mail.Send', 'Application Mail.Send'];

/** The way to Microsoft Graph: name, connection, TLS, and a token that may send. Whether it may as this user only a send tells. */
export async function verifyGraph(
  connection: Microsoft365Connection,
  options: VerifyOptions,
  steps: Steps,
): Promise<void> {
  const { signal, lookup, clock = systemClock } = options;
  const url = new URL(graphUrlOf(connection));
  const isTls = url.protocol === 'https:';
  const endpoint = { host: withoutBrackets(url.hostname), port: portOf(url) };
  const { connectMs, greetingMs } = connection.timeouts;
  const reach = { ...endpoint, lookup, connectMs, handshakeMs: greetingMs, signal };
  const tls = isTls ? await tlsConnectOptions(endpoint.host) : undefined;
  const way = {
    ...{ endpoint, mode: isTls ? ('implicit' as const) : ('none' as const) },
    open: (onPhase: (phase: Phase) => void) => openSocket({ ...reach, tls, onPhase }),
    socketOf: (socket: Socket) => socket,
  };
  const found = await verifyOpening(way, steps, signal);
  if (!found) return;
  found.opened.destroy();
  steps.add('ehlo', { status: 'skipped', message: 'Graph is no SMTP server' });
  let login: Login | undefined;
  const hasToken = await steps.run('token', async () => {
    login = await loginProvider(graphCredential(connection), options).login(signal);
    if (login.kind !== 'bearer')
      throw new MailError('CONNECTION_INVALID', 'Graph takes tokens, not passwords.');
    return { status: 'ok', ...describeToken(login, clock.now()) };
  });
  if (!hasToken || login?.kind !== 'bearer') return;
  const { permissions, audience } = describeToken(login, clock.now()).details;
  await steps.run('auth', async () => {
    if (exchangeAudience.test(String(audience))) {
      throw new MailError('AUTH_REFUSED', 'The token is for Exchange, and Graph wants one of its own.', {
        phase: 'auth',
        hint: 'Leave scope out, or set it to https://graph.microsoft.com/.default (or that of the national cloud).',
        details: { audience },
      });
    }
    // Where somebody adds the permission as the hint says, the application may send as everybody.
    if (hasExchangeRights(connection.auth))
      return {
        status: 'skipped',
        message: 'rights that come from Exchange are in no token; only a send tells',
      };
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
