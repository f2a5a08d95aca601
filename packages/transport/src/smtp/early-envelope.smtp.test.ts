import type { Socket } from 'node:net';
import type { ConnectionInput, SmtpConnection } from '@flowpost/core';
import { createTestCertificates, FaultServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
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

interface Settings extends Partial<typeof quick> {
  readonly pipelining?: SmtpConnection['pipelining'];
  readonly connections?: number;
}

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
    connection: ({ pipelining, connections = 1, ...timeouts }: Settings = {}): ConnectionInput => {
      const at = { host: '127.0.0.1', port: server.port, tls: 'none' } as const;
      return { ...at, pipelining, timeouts: { ...quick, ...timeouts }, limits: { connections } };
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

/** Says nothing from the end of these messages on, for as long as their sockets are held. */
const hold =
  (held: Map<string, Socket>, ...names: string[]): Answer =>
  ({ command }, message, socket) => {
    if (command === '.' && names.includes(message)) held.set(message, socket);
    return [...held.values()].includes(socket) ? null : undefined;
  };

/** Lets go of a socket that was held, with what is said on it at last. */
function release(held: Map<string, Socket>, name: string, ...replies: string[]): void {
  const socket = held.get(name);
  held.delete(name);
  socket?.write(replies.map((reply) => `${reply}\r\n`).join(''));
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
    const held = new Map<string, Socket>();
    await using server = await startServer(hold(held, 'second', 'other'));
    const connection = server.connection({ connections: 2, confirmMs: 15_000 });
    await using sender = createSender(connection, { closeDeadlineMs: 100 });
    await Promise.all([sender.send(to('first')), sender.send(to('first'))]);
    const second = sender.send(to('second'));
    await expect.poll(() => held.has('second')).toBe(true);
    const other = sender.send(to('other'));
    await expect.poll(() => held.has('other')).toBe(true);
    const third = sender.send(to('third'));
    release(held, 'other', '250 taken');
    expect((await other).status).toBe('sent');
    // It gives its place away in time; the session is the second one's, and is answered after that.
    expect((await third).status).toBe('sent');
    expect(held.has('second')).toBe(true);
    release(held, 'second', '250 taken');
    expect((await second).status).toBe('sent');
    expect(server.delivered).toEqual(['first', 'first', 'third']);
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

it('taken back by its sender leaves the message before alone', async () => {
  const held = new Map<string, Socket>();
  await using server = await startServer(hold(held, 'second'));
  await using sender = createSender(server.connection(), { closeDeadlineMs: 100 });
  await sender.send(to('first'));
  const controller = new AbortController();
  const second = sender.send(to('second'));
  const third = sender.send(to('third'), { signal: controller.signal });
  await expect.poll(() => server.said.filter(({ command }) => command === 'DATA').length).toBe(3);
  controller.abort();
  await expect(third).rejects.toMatchObject({ code: 'SEND_CANCELLED', phase: 'envelope', inDoubt: false });
  release(held, 'second', '250 taken');
  expect((await second).status).toBe('sent');
  expect((await sender.send(to('fourth'))).status).toBe('sent');
  expect(server.delivered).toEqual(['first', 'fourth']);
  expect(server.connections).toBe(2);
});

it('that cannot be said leaves the line as it was', async () => {
  const held = new Map<string, Socket>();
  await using server = await startServer(hold(held, 'second'));
  await using sender = createSender(server.connection(), { closeDeadlineMs: 100 });
  await sender.send(to('first'));
  const second = sender.send(to('second'));
  // Without SMTPUTF8 the server cannot be told of this one, which shows before a word of it has left.
  const odd = sender.send(to('jörg'));
  const third = sender.send(to('third'));
  await expect(odd).rejects.toMatchObject({ code: 'SMTPUTF8_NOT_OFFERED' });
  await expect.poll(() => held.has('second')).toBe(true);
  release(held, 'second', '250 taken');
  expect([(await second).status, (await third).status]).toEqual(['sent', 'sent']);
  expect(server.delivered).toEqual(['first', 'third']);
});

it.each([
  ['short', 1],
  ['in several pieces', 20_000],
])(
  'too long to leave at once is no doubt about the message before, which is %s',
  async (_, lines) => {
    let reader: Socket | undefined;
    await using server = await startServer(({ command }, message, socket) => {
      // Busy with the message, it reads nothing of what comes behind.
      if (command === '.' && message === 'second') reader = socket.pause();
      return undefined;
    });
    await using sender = createSender(server.connection(), { closeDeadlineMs: 100 });
    await sender.send(to('first'));
    const second = sender.send({ ...to('second'), text: 'A line of text.\n'.repeat(lines) });
    const bcc = Array.from(
      { length: 60_000 },
      (_one, index) => `${'x'.repeat(50)}${index}@${'y'.repeat(50)}.org`,
    );
    const third = sender.send({ ...to('third'), bcc });
    expect((await second).status).toBe('sent');
    reader?.resume();
    expect((await third).status).toBe('sent');
    expect(server.connections).toBe(1);
  },
  60_000,
);

it('does not overtake who waits for a session and cannot follow', async () => {
  const held = new Map<string, Socket>();
  await using server = await startServer(hold(held, 'second'));
  await using sender = createSender(server.connection({ confirmMs: 10_000 }));
  await sender.send(to('first'));
  const second = sender.send(to('second'));
  // With a transcript it is told of its own dialogue alone, so it does not share a session.
  const patient = sender.send(to('patient'), { transcript: () => undefined });
  await expect.poll(() => held.has('second')).toBe(true);
  const third = sender.send(to('third'));
  release(held, 'second', '250 taken');
  await Promise.all([second, patient, third]);
  const recipients = server.said.flatMap(({ command }) => /^RCPT TO:<(\w+)@/.exec(command)?.[1] ?? []);
  expect(recipients).toEqual(['first', 'second', 'patient', 'third']);
});

it('is said on no session any more once one has not heard it', async () => {
  const held = new Map<string, Socket>();
  await using server = await startServer(hold(held, 'slow', 'deaf', 'again'));
  await using sender = createSender(server.connection({ connections: 2, confirmMs: 10_000 }));
  const said = (name: string) => server.said.find(({ command }) => command.startsWith(`RCPT TO:<${name}@`));
  await Promise.all([sender.send(to('first')), sender.send(to('other'))]);
  const deaf = sender.send(to('deaf'));
  await expect.poll(() => held.has('deaf')).toBe(true);
  const slow = sender.send(to('slow'));
  await expect.poll(() => held.has('slow')).toBe(true);
  // Behind the one that waits for its answer longest.
  const again = sender.send(to('again'));
  await expect.poll(() => said('again')).toBeDefined();
  release(held, 'deaf', '250 taken', ...Array.from({ length: 3 }, () => '503 5.5.1 not now'));
  await expect.poll(() => held.has('again')).toBe(true);
  const last = sender.send(to('last'));
  release(held, 'again', '250 taken');
  await Promise.all([deaf, again, last]);
  expect(said('last')?.connection).not.toBe(said('slow')?.connection);
  release(held, 'slow', '250 taken');
  expect((await slow).status).toBe('sent');
});

it('is heard by the server that goes wrong on demand', async () => {
  await using server = await FaultServer.start({ stage: 'dot', fault: '4yz', times: 1 });
  const at = { host: '127.0.0.1', port: server.port, tls: 'none', timeouts: quick } as const;
  await using sender = createSender({ ...at, limits: { connections: 1 } });
  const names = Array.from({ length: 20 }, (_, index) => `m${index}`);
  const results = await Promise.allSettled(names.map((name) => sender.send(to(name))));
  expect(results.map(codeOf)).toEqual(['MESSAGE_DEFERRED', ...names.slice(1).map(() => 'sent')]);
  expect(server.messages).toHaveLength(names.length - 1);
  expect(server.connections).toBe(1);
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
