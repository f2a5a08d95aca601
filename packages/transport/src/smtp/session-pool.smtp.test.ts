import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { type ConnectionInput, ManualClock, MemoryTokenStore } from '@flowpost/core';
import { OAuthServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it, vi } from 'vitest';
import { createSender } from '../create-sender.ts';
import { MessageWriter } from './message-writer.ts';
import { SmtpChannel } from './smtp-channel.ts';
import { Transcript } from './transcript.ts';

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };

it('a thousand messages over five connections are five logins', async () => {
  await using inbox = await SmtpInbox.start({ users: { me: 'secret' } });
  const auth = { kind: 'basic', username: 'me', password: 'secret' } as const;
  await using sender = createSender({ host: inbox.host, port: inbox.port, auth, limits: { connections: 5 } });
  const receipts = await Promise.all(Array.from({ length: 1_000 }, () => sender.send(message)));
  expect(receipts.every(({ status }) => status === 'sent')).toBe(true);
  expect([inbox.messages.length, inbox.connections, inbox.logins.length]).toEqual([1_000, 5, 5]);
});

describe('a session ends', () => {
  it('when it has been idle for long enough', async () => {
    await using inbox = await SmtpInbox.start();
    await using sender = createSender({ host: inbox.host, port: inbox.port, limits: { idleMs: 30 } });
    await sender.send(message);
    await expect.poll(() => inbox.openConnections).toBe(0);
    await sender.send(message);
    expect(inbox.connections).toBe(2);
  });

  it('when it has been used for long enough', async () => {
    await using inbox = await SmtpInbox.start();
    const clock = new ManualClock(1);
    await using sender = createSender(
      { host: inbox.host, port: inbox.port, limits: { lifetimeMs: 60_000 } },
      { clock },
    );
    await sender.send(message);
    clock.advance(59_000);
    await sender.send(message);
    expect(inbox.connections).toBe(1);
    clock.advance(2_000);
    await sender.send(message);
    expect(inbox.connections).toBe(2);
  });

  it('when its token has expired: one new token, and nothing is lost', async () => {
    await using issuer = await OAuthServer.start({
      secrets: { app: 'client-secret' },
      accessTokenSeconds: 600,
    });
    const clock = new ManualClock(Date.now());
    const tokens: Record<string, string> = {};
    const tokenStore = new MemoryTokenStore();
    tokenStore.set = async (key, stored) => {
      tokens['me@x.org'] = stored.accessToken?.reveal() ?? '';
      await MemoryTokenStore.prototype.set.call(tokenStore, key, stored);
    };
    await using inbox = await SmtpInbox.start({ tokens });
    const connection: ConnectionInput = {
      host: inbox.host,
      port: inbox.port,
      limits: { connections: 3, lifetimeMs: 86_000_000 },
      auth: {
        kind: 'oauth2-client-credentials',
        user: 'me@x.org',
        tokenEndpoint: issuer.tokenEndpoint,
        clientId: 'app',
        clientSecret: 'client-secret',
      },
    };
    await using sender = createSender(connection, { clock, auth: { clock, tokenStore } });
    const sendMany = () => Promise.all(Array.from({ length: 20 }, () => sender.send(message)));
    await sendMany();
    expect([issuer.requests.length, inbox.logins.length]).toEqual([1, 3]);
    clock.advance(700_000);
    await sendMany();
    expect([issuer.requests.length, inbox.logins.length, inbox.messages.length]).toEqual([2, 6, 40]);
  });

  it('when the server says so while it is parked', async () => {
    let close = (): void => undefined;
    await using server = await RawServer.start((socket) => {
      speakSmtp(socket, () => undefined);
      close = () => socket.end('421 4.4.2 idle for too long\r\n');
    });
    await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
    await sender.send(message);
    close();
    await expect.poll(() => server.openConnections).toBe(0);
    expect(await sender.send(message)).toMatchObject({ status: 'sent', attempts: 1 });
    expect(server.connections).toBe(2);
  });
});

it('closing waits for what is in flight, but not for ever', async () => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => (command === '.' ? null : undefined)),
  );
  const sender = createSender(
    { host: '127.0.0.1', port: server.port, tls: 'none' },
    { closeDeadlineMs: 100 },
  );
  let begun = (): void => undefined;
  const handedOver = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const sending = sender.send(message, { beforeData: () => begun() }).catch((error) => error);
  await handedOver;
  await sender[Symbol.asyncDispose]();
  expect(await sending).toMatchObject({ code: 'DELIVERY_IN_DOUBT', inDoubt: true });
  await expect.poll(() => server.openConnections).toBe(0);
});

it('a known service is not asked for more than it allows', async () => {
  await using inbox = await SmtpInbox.start();
  const lookup = async () => [{ address: '127.0.0.1', family: 4 }];
  const clock = new ManualClock();
  const connection = { host: 'smtp.office365.com', port: inbox.port, tls: 'none' } as const;
  await using sender = createSender(connection, { lookup, clock });
  const sending = Promise.all(Array.from({ length: 31 }, () => sender.send(message)));
  await expect.poll(() => inbox.messages.length).toBe(30);
  expect(inbox.connections).toBe(3);
  clock.advance(60_000);
  await sending;
  expect(inbox.messages).toHaveLength(31);
});

describe('a server that wants fewer sessions, and says for how long', () => {
  const refusing = (mayLogIn: (connection: number) => boolean, asked: { logins: number }) =>
    RawServer.start((socket, connection) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return '250-test\r\n250 AUTH PLAIN';
        if (!command.startsWith('AUTH')) return undefined;
        asked.logins++;
        return mayLogIn(connection) ? '235 ok' : '454 4.7.0 Too many login attempts, please try again later.';
      }),
    );
  const auth = { kind: 'basic', username: 'me', password: 'secret' } as const;

  it('is not asked again before that', async () => {
    const asked = { logins: 0 };
    await using server = await refusing(() => false, asked);
    await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none', auth });
    const send = () => sender.send(message).catch((error) => error);
    const outcomes = [...(await Promise.all(Array.from({ length: 30 }, send))), await send()];
    expect(asked.logins).toBeLessThanOrEqual(5);
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ code: 'AUTH_DEFERRED', retryable: true, details: { replyCode: 454 } });
    expect(outcomes.at(-1).details.retryAfterMs).toBeLessThanOrEqual(600_000);
  });

  it('gets everything over those it takes', async () => {
    const asked = { logins: 0 };
    await using server = await refusing((connection) => connection <= 2, asked);
    await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none', auth });
    const receipts = await Promise.all(Array.from({ length: 30 }, () => sender.send(message)));
    expect(receipts.every(({ status }) => status === 'sent')).toBe(true);
    expect(asked.logins).toBeLessThanOrEqual(5);
  });
});

it('closing ends what still waits for its turn', async () => {
  await using inbox = await SmtpInbox.start();
  const limits = { messagesPerMinute: 1 };
  const sender = createSender({ host: inbox.host, port: inbox.port, limits }, { closeDeadlineMs: 50 });
  await sender.send(message);
  const waiting = sender.send(message).catch((error) => error);
  await sender[Symbol.asyncDispose]();
  expect(await waiting).toMatchObject({ code: 'SEND_CANCELLED', inDoubt: false });
  expect(inbox.messages).toHaveLength(1);
});

it('is not held back by a clock that stands still in a test', async () => {
  await using server = await RawServer.start((socket) => speakSmtp(socket, () => undefined));
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
  await sender.send(message);
  vi.useFakeTimers({ toFake: ['setImmediate', 'clearImmediate'] });
  try {
    // More than there are sessions for, so that receipts wait for what has come in.
    await Promise.all(Array.from({ length: 30 }, () => sender.send(message)));
  } finally {
    vi.useRealTimers();
  }
  const after = await Promise.all(Array.from({ length: 30 }, () => sender.send(message)));
  expect(after).toHaveLength(30);
});

it.each([0, 2, 5, 8, 12, 16, 25])(
  'a send that is given up %i steps after it began is given up',
  async (steps) => {
    const stop = new AbortController();
    const lookup = () => new Promise<never>(() => undefined);
    await using sender = createSender({ host: 'mail.example.com', tls: 'implicit' }, { lookup });
    const sending = sender.send(message, { signal: stop.signal }).catch((error) => error);
    for (let step = 0; step < steps; step++) await undefined;
    stop.abort();
    expect(await sending).toMatchObject({ code: 'SEND_CANCELLED' });
  },
);

it('a hook that never ends is not waited for when time is up', async () => {
  await using inbox = await SmtpInbox.start();
  await using sender = createSender({ host: inbox.host, port: inbox.port });
  const beforeData = () => new Promise<void>(() => undefined);
  await expect(sender.send(message, { beforeData, timeoutMs: 100 })).rejects.toMatchObject({
    code: 'SEND_TIMED_OUT',
  });
  expect(inbox.messages).toEqual([]);
});

it('an expired session makes room before another one is opened', async () => {
  let open = 0;
  let most = 0;
  await using server = await RawServer.start((socket) => {
    most = Math.max(most, ++open);
    socket.once('close', () => open--);
    speakSmtp(socket, (command) => (command === 'QUIT' ? null : undefined));
  });
  const clock = new ManualClock(1);
  const limits = { connections: 1, lifetimeMs: 1_000 };
  await using sender = createSender(
    { host: '127.0.0.1', port: server.port, tls: 'none', limits },
    { clock, closeDeadlineMs: 50 },
  );
  await sender.send(message);
  clock.advance(2_000);
  await sender.send(message);
  await expect.poll(() => open).toBe(1);
  expect(server.connections).toBe(2);
});

it('a server that stops reading is noticed, however small the pieces are', async () => {
  await using server = await RawServer.start((socket) => {
    let commands = '';
    socket.write('220 test\r\n');
    socket.on('data', (chunk) => {
      commands += chunk.toString('latin1');
      if (commands.includes('DATA\r\n')) {
        socket.pause();
        socket.write('354 go on\r\n');
      } else if (/(?:EHLO|MAIL|RCPT)[^\n]*\r\n$/.test(commands)) socket.write('250 ok\r\n');
    });
  });
  const socket = connect(server.port, '127.0.0.1');
  await once(socket, 'connect');
  const channel = new SmtpChannel(socket, new Transcript((text) => text));
  const writer = new MessageWriter(channel, 300);
  socket.write('DATA\r\n');
  const pieces = Readable.from(
    (function* () {
      for (let count = 0; count < 10_000; count++) yield Buffer.alloc(8 * 1024, 'x');
    })(),
    { objectMode: false },
  );
  await channel.read(1_000);
  await channel.read(1_000);
  await expect(writer.write(pieces)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  expect(writer.phase).toBe('data');
});

it.each([
  ['greeting', { code: 'PROTOCOL_VIOLATED', inDoubt: false }],
  ['answer', { code: 'DELIVERY_IN_DOUBT', inDoubt: true }],
])(
  'too many lines as a %s, and no end to the last, end one send and not the process',
  async (where, failure) => {
    // As much as is read of a reply, and then some.
    const tooMuch = (code: number) =>
      `${`${code}-${'x'.repeat(77)}\r\n`.repeat(199)}${code} ${'x'.repeat(77)}`;
    await using server = await RawServer.start((socket) => {
      if (where === 'greeting') socket.end(tooMuch(220));
      else
        speakSmtp(socket, (command) => {
          if (command !== '.') return undefined;
          socket.end(tooMuch(250));
          return null;
        });
    });
    await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
    await expect(sender.send(message)).rejects.toMatchObject(failure);
  },
);

it('a server that goes on talking to a parked session is not listened to', async () => {
  let talker: Socket | undefined;
  await using server = await RawServer.start((socket) => {
    talker = socket;
    socket.on('error', () => undefined);
    speakSmtp(socket, () => undefined);
  });
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
  await sender.send(message);
  talker?.write('250 and another thing\r\n');
  await once(talker as Socket, 'close');
  expect(await sender.send(message)).toMatchObject({ status: 'sent', attempts: 1 });
  expect(server.connections).toBe(2);
});

it('a server that answers without end while a hook runs ends the send', async () => {
  const hungUp = Promise.withResolvers<void>();
  await using server = await RawServer.start((socket) => {
    socket.on('error', () => undefined).once('close', () => hungUp.resolve());
    speakSmtp(socket, (command) =>
      command === 'DATA' ? `354 go\r\n${'250 x\r\n'.repeat(200_000)}` : undefined,
    );
  });
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
  const sent = sender.send(message, { beforeData: () => hungUp.promise });
  await expect(sent).rejects.toMatchObject({ code: 'PROTOCOL_VIOLATED', inDoubt: false });
});

it.each([
  ['at once', false],
  ['after somebody it sent away has gone', true],
])(
  'a server that takes so many sessions, %s, and no more gets another one when one has ended',
  async (_, waits) => {
    /** Those it lets in, as long as it has sent nobody away. */
    let held: (() => void)[] | undefined = waits ? [] : undefined;
    let open = 0;
    let taken = 0;
    await using server = await RawServer.start((socket) => {
      let isIn = false;
      const leave = (): void => {
        if (isIn) open--;
        isIn = false;
      };
      socket.on('close', leave);
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return '250-x\r\n250 AUTH PLAIN';
        if (command === 'QUIT') leave();
        if (command === '.') taken++;
        if (!command.startsWith('AUTH')) return undefined;
        if (open === 2) {
          // Then it has heard so.
          socket.once('close', () => {
            for (const letIn of held ?? []) letIn();
            held = undefined;
          });
          return '432 4.3.2 Concurrent connections limit exceeded.';
        }
        isIn = true;
        open++;
        if (!held) return undefined;
        held.push(() => socket.write('235 2.7.0 welcome\r\n'));
        return null;
      });
    });
    await using sender = createSender({
      ...{ host: '127.0.0.1', port: server.port, tls: 'none', limits: { connections: 3 } },
      auth: { kind: 'basic', username: 'me', password: 'secret' },
    });
    const sends = Array.from({ length: 20 }, () => sender.send(message, { closeSession: true }));
    const outcomes = await Promise.allSettled(sends);
    expect(outcomes.map(({ status }) => status)).toEqual(sends.map(() => 'fulfilled'));
    expect(taken).toBe(20);
    // Nor does it matter how they ended.
    await using idle = createSender({
      ...{ host: '127.0.0.1', port: server.port, tls: 'none', limits: { connections: 3, idleMs: 20 } },
      auth: { kind: 'basic', username: 'me', password: 'secret' },
    });
    await Promise.all([1, 2, 3].map(() => idle.send(message)));
    await expect.poll(() => open).toBe(0);
    expect(
      (await Promise.allSettled([1, 2, 3].map(() => idle.send(message)))).map(({ status }) => status),
    ).toEqual(Array(3).fill('fulfilled'));
  },
);

it('a server that has no place for another session is not asked again and again', async () => {
  let logins = 0;
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return '250-x\r\n250 AUTH PLAIN';
      if (!command.startsWith('AUTH')) return undefined;
      logins++;
      return '432 4.3.2 Concurrent connections limit exceeded.';
    }),
  );
  await using sender = createSender({
    ...{ host: '127.0.0.1', port: server.port, tls: 'none', limits: { connections: 5 } },
    auth: { kind: 'basic', username: 'me', password: 'secret' },
  });
  await Promise.allSettled(Array.from({ length: 5 }, () => sender.send(message)));
  for (let count = 0; count < 20; count++) await sender.send(message).catch(() => undefined);
  expect(logins).toBe(5);
});
