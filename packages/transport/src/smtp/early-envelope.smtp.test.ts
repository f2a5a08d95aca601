import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionInput, SmtpConnection } from '@flowpost/core';
import { createTestCertificates, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';

// While a message has only its answer to wait for, the next one may say its envelope (RFC 2920 section 3.1). Whatever the
// server makes of the two, each is told what became of it, and of it alone.

const quick = { connectMs: 2_000, greetingMs: 1_000, commandMs: 500, dataMs: 1_000, confirmMs: 1_000 };
const to = (name: string) => ({ from: 'a@x.org', to: `${name}@x.org`, subject: 'Hi', text: 'Hello' });

interface Said {
  readonly command: string;
  /** Which piece of what came in over its connection it was in. */
  readonly piece: number;
  readonly connection: number;
}

/** What is answered to a command, once the message named `to` has been confirmed before; undefined for the usual. */
type Answer = (said: Said, message: string, socket: Socket) => string | null | undefined;

type Settings = Partial<typeof quick> & { readonly pipelining?: SmtpConnection['pipelining'] };

/** A server with PIPELINING that keeps what was said and who got a message. */
async function startServer(answer: Answer = () => undefined) {
  const said: Said[] = [];
  const delivered: string[] = [];
  const server = await RawServer.start((socket, connection) => {
    let piece = 0;
    let message = '';
    socket.on('data', () => piece++);
    speakSmtp(socket, (command) => {
      const one = { command, piece, connection };
      said.push(one);
      message = /^RCPT TO:<(\w+)@/.exec(command)?.[1] ?? message;
      if (command.startsWith('EHLO')) return '250-test\r\n250 PIPELINING';
      const given = answer(one, message, socket);
      if (command === '.' && (given === undefined || given?.startsWith('250'))) delivered.push(message);
      return given;
    });
  });
  return {
    said,
    delivered,
    connection: ({ pipelining, ...timeouts }: Settings = {}): ConnectionInput => {
      const at = { host: '127.0.0.1', port: server.port, tls: 'none' } as const;
      return { ...at, pipelining, timeouts: { ...quick, ...timeouts }, limits: { connections: 1 } };
    },
    get connections() {
      return server.connections;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Whether it came along with the end of a message. */
const isEarly = (one: Said, said: readonly Said[]): boolean =>
  one.command !== '.' &&
  said.some(
    ({ command, piece, connection }) =>
      command === '.' && piece === one.piece && connection === one.connection,
  );

const codeOf = (result: PromiseSettledResult<{ status: string }>): string =>
  result.status === 'fulfilled' ? result.value.status : result.reason.code;

/** One message to get to know the server, then two at once over the same session. */
async function sendThree(connection: ConnectionInput): Promise<string[]> {
  await using sender = createSender(connection, { closeDeadlineMs: 100 });
  await sender.send(to('first'));
  const results = await Promise.allSettled([sender.send(to('second')), sender.send(to('third'))]);
  return results.map(codeOf);
}

it('leaves with the end of the message before it', async () => {
  await using server = await startServer();
  const codes = await sendThree(server.connection());
  expect(codes).toEqual(['sent', 'sent']);
  expect(server.delivered).toEqual(['first', 'second', 'third']);
  const [, , , secondEnd, thirdMail, thirdEnd] = server.said.filter(({ command }) =>
    /^(?:MAIL|\.)/.test(command),
  );
  expect(secondEnd).toMatchObject({ command: '.', connection: 1 });
  expect(thirdMail).toMatchObject({ piece: secondEnd?.piece, connection: 1 });
  expect(thirdEnd?.piece).toBe((thirdMail?.piece ?? 0) + 1);
});

it.each([
  ['within-message', true],
  ['off', false],
] as const)('does not leave early with pipelining %s', async (pipelining, together) => {
  await using server = await startServer();
  expect(await sendThree(server.connection({ pipelining }))).toEqual(['sent', 'sent']);
  expect(server.said.filter((one) => isEarly(one, server.said))).toEqual([]);
  const pieceOf = (verb: string) => server.said.findLast(({ command }) => command.startsWith(verb))?.piece;
  expect(pieceOf('MAIL') === pieceOf('DATA')).toBe(together);
});

it('is not said to a server that takes its time, and costs no session there', async () => {
  await using server = await startServer(({ command }, _, socket) => {
    if (command !== '.') return undefined;
    setTimeout(() => socket.write('250 taken\r\n'), 300);
    return null;
  });
  const codes = await sendThree(server.connection());
  expect(codes).toEqual(['sent', 'sent']);
  const [, , , secondEnd, thirdMail] = server.said.filter(({ command }) => /^(?:MAIL|\.)/.test(command));
  expect(thirdMail?.piece).toBeGreaterThan(secondEnd?.piece ?? 0);
  expect(server.connections).toBe(1);
});

describe('when the message before gets', () => {
  const cut = (socket: Socket, how: 'end' | 'reset', last = ''): null => {
    if (how === 'end') socket.end(last);
    else socket.resetAndDestroy();
    return null;
  };
  it.each<[string, (socket: Socket) => string | null, string]>([
    ['an end of the connection', (socket) => cut(socket, 'end'), 'DELIVERY_IN_DOUBT'],
    ['a reset', (socket) => cut(socket, 'reset'), 'DELIVERY_IN_DOUBT'],
    ['421', () => '421 4.3.2 closing', 'MESSAGE_DEFERRED'],
    ['421 and the end', (socket) => cut(socket, 'end', '421 4.3.2 closing\r\n'), 'MESSAGE_DEFERRED'],
    ['451', () => '451 4.3.0 later', 'MESSAGE_DEFERRED'],
    ['550', () => '550 5.7.1 spam', 'MESSAGE_REFUSED'],
    ['no SMTP', () => 'what?', 'DELIVERY_IN_DOUBT'],
    ['two answers', () => '250 taken\r\n250 taken', 'sent'],
  ])('%s, the next one is sent all the same, once', async (_, fault, expected) => {
    await using server = await startServer(({ command }, message, socket) =>
      command === '.' && message === 'second' ? fault(socket) : undefined,
    );
    const codes = await sendThree(server.connection());
    expect(codes).toEqual([expected, 'sent']);
    expect(server.delivered.filter((name) => name === 'third')).toEqual(['third']);
  });

  it('none at all, the next one goes over another session, and the doubt is its own', async () => {
    let silent = false;
    await using server = await startServer(({ command, connection }, message) => {
      silent ||= command === '.' && message === 'second';
      return silent && connection === 1 ? null : undefined;
    });
    const codes = await sendThree(server.connection());
    expect(codes).toEqual(['DELIVERY_IN_DOUBT', 'sent']);
    expect(server.delivered).toEqual(['first', 'third']);
  });

  it('its answer so late that others are long free, the next one does not wait for that', async () => {
    let silent: Socket | undefined;
    await using server = await startServer(({ command, connection }, message, socket) => {
      if (command === '.' && message === 'second') silent = socket;
      return silent && connection === 1 ? null : undefined;
    });
    await using sender = createSender(server.connection({ confirmMs: 8_000 }), { closeDeadlineMs: 100 });
    await sender.send(to('first'));
    const second = sender.send(to('second'));
    const third = sender.send(to('third'));
    await expect.poll(() => silent !== undefined).toBe(true);
    // While the answer to the second one is waited for.
    await delay(5_500);
    // It has given its place away by now; the session is the second one's, and is answered now.
    silent?.write('250 taken\r\n');
    expect((await second).status).toBe('sent');
    expect((await third).status).toBe('sent');
    expect(server.connections).toBe(2);
    expect(server.delivered).toEqual(['first', 'third']);
  }, 20_000);
});

describe('when the early envelope gets', () => {
  it.each([
    ['its sender refused', /^MAIL/, 'SENDER_REFUSED'],
    ['its recipient refused', /^(?:RCPT|DATA)/, 'RECIPIENTS_REFUSED'],
    ['no message wanted', /^DATA/, 'MESSAGE_REFUSED'],
  ])('%s, that is its own', async (_, command, expected) => {
    let ended = 0;
    await using server = await startServer((one) => {
      if (one.command === '.') ended++;
      return ended === 2 && command.test(one.command) ? '550 5.7.1 no' : undefined;
    });
    const codes = await sendThree(server.connection());
    expect(codes).toEqual(['sent', expected]);
    expect(server.delivered).toEqual(['first', 'second']);
  });

  it.each<[string, string | null]>([
    ['503', '503 5.5.1 not now'],
    ['no answer', null],
  ])('%s, it is said again over another session, and never early again', async (_, reply) => {
    const said: Said[] = [];
    await using server = await startServer((one) => {
      said.push(one);
      return isEarly(one, said) ? reply : undefined;
    });
    await using sender = createSender(server.connection());
    await sender.send(to('first'));
    const names = Array.from({ length: 8 }, (_one, index) => `m${index}`);
    const receipts = await Promise.all(names.map((name) => sender.send(to(name))));
    expect(receipts.map(({ status }) => status)).toEqual(names.map(() => 'sent'));
    expect(server.delivered.toSorted()).toEqual(['first', ...names]);
    // One more than the broken one: who was told to use a new session does so.
    expect(server.connections).toBeLessThanOrEqual(3);
    const early = server.said.filter((one) => isEarly(one, server.said));
    expect(new Set(early.map(({ connection }) => connection))).toEqual(new Set([1]));
  });
});

it('taken for a part of the message before: that is in doubt, and no other one after it', async () => {
  const messages: string[] = [];
  await using server = await RawServer.start((socket) => {
    let inMessage = false;
    let text = '';
    socket.write('220 test\r\n');
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      // Looks for the end of a message at the end of what came in, and nowhere else.
      if (inMessage ? !text.endsWith('\r\n.\r\n') : !text.endsWith('\r\n')) return;
      if (inMessage) messages.push(text);
      else if (text.endsWith('DATA\r\n')) inMessage = true;
      if (text.startsWith('EHLO')) socket.write('250-test\r\n250 PIPELINING\r\n');
      else if (inMessage && text.endsWith('DATA\r\n')) socket.write('250 ok\r\n250 ok\r\n354 go on\r\n');
      else {
        inMessage = false;
        socket.write('250 ok\r\n');
      }
      text = '';
    });
  });
  const at = { host: '127.0.0.1', port: server.port, tls: 'none', timeouts: quick } as const;
  await using sender = createSender({ ...at, limits: { connections: 1 } }, { closeDeadlineMs: 100 });
  await sender.send(to('first'));
  const names = ['second', 'third', 'fourth', 'fifth', 'sixth'];
  const results = await Promise.allSettled(names.map((name) => sender.send(to(name))));
  expect(results.map(codeOf)).toEqual(['DELIVERY_IN_DOUBT', 'sent', 'sent', 'sent', 'sent']);
  expect(messages).toHaveLength(5);
});

/** Says nothing from the end of the second message on, for as long as its socket is held. */
const holdSecond =
  (held: { socket?: Socket | undefined }): Answer =>
  ({ command }, message, socket) => {
    if (command === '.' && message === 'second') held.socket = socket;
    return held.socket ? null : undefined;
  };

it('taken back by its sender leaves the message before alone', async () => {
  const held: { socket?: Socket | undefined } = {};
  await using server = await startServer(holdSecond(held));
  await using sender = createSender(server.connection(), { closeDeadlineMs: 100 });
  await sender.send(to('first'));
  const controller = new AbortController();
  const second = sender.send(to('second'));
  const third = sender.send(to('third'), { signal: controller.signal });
  await expect.poll(() => server.said.filter(({ command }) => command === 'DATA').length).toBe(3);
  controller.abort();
  await expect(third).rejects.toMatchObject({ code: 'SEND_CANCELLED', inDoubt: false });
  held.socket?.write('250 taken\r\n');
  expect((await second).status).toBe('sent');
  held.socket = undefined;
  expect((await sender.send(to('fourth'))).status).toBe('sent');
  expect(server.delivered).toEqual(['first', 'fourth']);
  expect(server.connections).toBe(2);
});

it('that cannot be said leaves the line as it was', async () => {
  const held: { socket?: Socket | undefined } = {};
  await using server = await startServer(holdSecond(held));
  await using sender = createSender(server.connection(), { closeDeadlineMs: 100 });
  await sender.send(to('first'));
  const second = sender.send(to('second'));
  // Without SMTPUTF8 the server cannot be told of this one, which shows before a word of it has left.
  const odd = sender.send(to('jörg'));
  const third = sender.send(to('third'));
  await expect(odd).rejects.toMatchObject({ code: 'SMTPUTF8_NOT_OFFERED' });
  await expect.poll(() => held.socket !== undefined).toBe(true);
  const { socket } = held;
  held.socket = undefined;
  socket?.write('250 taken\r\n');
  expect([(await second).status, (await third).status]).toEqual(['sent', 'sent']);
  expect(server.delivered).toEqual(['first', 'third']);
});

it.each(['starttls', 'implicit'] as const)(
  'over TLS (%s) and to a real server: everything arrives once, with one login a session',
  async (tls) => {
    const { authority, valid } = await createTestCertificates();
    await using inbox = await SmtpInbox.start({ users: { me: 'secret' }, tls, certificate: valid });
    const auth = { kind: 'basic', username: 'me', password: 'secret' } as const;
    const trust = { ca: authority.cert, serverName: 'localhost' };
    const at = { host: inbox.host, port: inbox.port, auth, tls, tlsOptions: trust };
    await using sender = createSender({ ...at, limits: { connections: 2 } });
    const names = Array.from({ length: 300 }, (_, index) => `m${index}`);
    const receipts = await Promise.all(names.map((name) => sender.send({ ...to(name), subject: name })));
    expect(receipts.every(({ status }) => status === 'sent')).toBe(true);
    expect(inbox.messages.map(({ envelope }) => envelope.to[0]).toSorted()).toEqual(
      names.map((name) => `${name}@x.org`).toSorted(),
    );
    expect(inbox.logins.length).toBe(2);
  },
);
