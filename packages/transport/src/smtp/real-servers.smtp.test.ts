// What servers in use do that scripted ones did not: Exim, OpenSMTPD.
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { toMailError } from '@flowpost/core';
import { RawServer, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
const pipelining = '250-test\r\n250 PIPELINING';

it.each([pipelining, '250 test'])('a session that takes no more messages is left: %j', async (ehlo) => {
  let taken = 0;
  await using server = await RawServer.start((socket) => {
    let inSession = 0;
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return ehlo;
      if (command === '.') taken++;
      if (command.startsWith('MAIL') && ++inSession > 3) return '452 4.5.3 Too many messages sent';
      return undefined;
    });
  });
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  for (let count = 0; count < 10; count++) await sender.send(message);
  expect([taken, server.connections]).toEqual([10, 4]);
  await Promise.all(Array.from({ length: 40 }, () => sender.send(message)));
  expect(taken).toBe(50);
});

it('one that takes none at all says so', async () => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) =>
      command.startsWith('MAIL') ? '452 4.5.3 Too many messages sent' : undefined,
    ),
  );
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const error = await sender.send(message).catch(toMailError);
  expect(error).toMatchObject({
    code: 'SENDER_DEFERRED',
    retryable: true,
    hint: expect.stringMatching(/session/),
  });
  expect(server.connections).toBe(1);
});

/** A server with PIPELINING that hangs up as it refuses one of the recipients. */
const dropping = () =>
  RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return pipelining;
      if (!command.includes('drop@')) return undefined;
      socket.end('550 5.1.1 dropped at RCPT\r\n');
      return null;
    }),
  );

it('who is refused and hung up on is refused', async () => {
  await using server = await dropping();
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const alone = await sender.send({ ...message, to: 'drop@x.org' }).catch(toMailError);
  expect(alone).toMatchObject({
    ...{ code: 'RECIPIENTS_REFUSED', retryable: false, inDoubt: false },
    details: { rejected: [{ address: 'drop@x.org', code: 550, reply: '550 5.1.1 dropped at RCPT' }] },
  });
  // The others get it all the same.
  const to = ['b@x.org', 'drop@x.org', 'c@x.org', 'also-drop@x.org'];
  const among = await sender.send({ ...message, to });
  expect(among).toMatchObject({
    ...{ status: 'partial', accepted: ['b@x.org', 'c@x.org'] },
    rejected: [
      { address: 'drop@x.org', code: 550 },
      { address: 'also-drop@x.org', code: 550 },
    ],
  });
  const all = await sender.send({ ...message, to }, { onPartial: 'fail' }).catch(toMailError);
  expect(all).toMatchObject({ code: 'RECIPIENTS_REFUSED', retryable: false, inDoubt: false });
});

it('a greeting that is refused and hung up on is refused', async () => {
  await using server = await RawServer.start((socket) => {
    socket.write('220 test\r\n');
    socket.on('data', () => socket.end('550 5.7.1 bad helo\r\n'));
  });
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const error = await sender.send(message).catch(toMailError);
  expect(error).toMatchObject({ code: 'GREETING_REFUSED', details: { reply: '550 5.7.1 bad helo' } });
});

it('a server that takes fewer sessions than wanted takes all messages over those', async () => {
  let open = 0;
  let taken = 0;
  await using server = await RawServer.start((socket) => {
    if (open >= 2) {
      socket.end(
        '421 4.7.0 Too many concurrent SMTP connections from this IP address; please try again later\r\n',
      );
      return;
    }
    open++;
    socket.on('close', () => {
      open--;
    });
    speakSmtp(socket, (command) => {
      if (command === '.') taken++;
      return command.startsWith('EHLO') ? pipelining : undefined;
    });
  });
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
  await Promise.all(Array.from({ length: 60 }, () => sender.send(message)));
  expect(taken).toBe(60);
});

it('a refusal of DATA says who was refused before', async () => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return pipelining;
      if (command.includes('c@')) return '552 too many recipients';
      return command === 'DATA' ? '554 Too many recipients' : undefined;
    }),
  );
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const error = await sender.send({ ...message, to: ['b@x.org', 'c@x.org'] }).catch(toMailError);
  expect(error).toMatchObject({
    code: 'MESSAGE_REFUSED',
    details: { rejected: [{ address: 'c@x.org', code: 552 }] },
  });
});

it('who is left out after the server hung up is named whatever becomes of the others', async () => {
  let isLosing = true;
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return pipelining;
      if (command.includes('drop@')) {
        socket.end('521 5.2.0 no\r\n');
        return null;
      }
      if (command !== '.' || !isLosing) return undefined;
      socket.destroy();
      return null;
    }),
  );
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const to = ['b@x.org', 'drop@x.org'];
  const lost = await sender.send({ ...message, to }).catch(toMailError);
  expect(lost).toMatchObject({
    inDoubt: true,
    details: { unconfirmed: ['b@x.org'], rejected: [{ address: 'drop@x.org', code: 521 }] },
  });
  isLosing = false;
  expect(await sender.send({ ...message, to })).toMatchObject({ status: 'partial' });
});

it.each([
  ['521 5.7.1 Client host rejected: Access denied', 1],
  ['521 5.2.0 no', 11],
])('a server that hangs up over everybody is not asked for each: %s', async (reply, connections) => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return pipelining;
      if (!command.startsWith('RCPT')) return undefined;
      socket.end(`${reply}\r\n`);
      return null;
    }),
  );
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const to = Array.from({ length: 20 }, (_, index) => `r${index}@x.org`);
  const error = await sender.send({ ...message, to }).catch(toMailError);
  expect(error).toMatchObject({ phase: 'envelope', details: { rejected: { length: connections } } });
  expect(server.connections).toBe(connections);
});

it('a server with room for two sessions of three messages each gets everything', async () => {
  const open = new Set<unknown>();
  let taken = 0;
  let refusals = 0;
  await using server = await RawServer.start((socket) => {
    if (open.size >= 2) {
      refusals++;
      socket.end('421 4.7.0 Too many concurrent SMTP connections\r\n');
      return;
    }
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    let inSession = 0;
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return pipelining;
      if (command === '.') taken++;
      if (command === 'QUIT') open.delete(socket);
      return command.startsWith('MAIL') && ++inSession > 3 ? '452 4.5.3 Too many messages sent' : undefined;
    });
  });
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
  await Promise.all(Array.from({ length: 60 }, () => sender.send(message)));
  expect(taken).toBe(60);
  // It is not asked again and again.
  expect(refusals).toBeLessThan(10);
});

it('a password that is refused is not tried again for each session that ends', async () => {
  const open = new Set<Socket>();
  let isChanged = false;
  let refused = 0;
  await using server = await RawServer.start((socket) => {
    if (open.size >= 4) {
      socket.end('421 4.7.0 Too many connections\r\n');
      return;
    }
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return '250-test\r\n250 AUTH PLAIN';
      // With the message, until it is cut off.
      if (command === '.') return null;
      if (!command.startsWith('AUTH') || !isChanged) return undefined;
      refused++;
      return '535 5.7.8 Bad credentials';
    });
  });
  const auth = { kind: 'basic', username: 'me', password: 'old' } as const;
  const limits = { connections: 8 };
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none', auth, limits });
  const first = Promise.allSettled(Array.from({ length: 5 }, () => sender.send(message)));
  await expect.poll(() => open.size).toBe(4);
  await delay(100);
  isChanged = true;
  const last = sender.send(message).catch(toMailError);
  for (const socket of [...open]) {
    socket.destroy();
    // Before it is heard, another one may ask.
    await expect.poll(() => refused).toBe(1);
    await delay(30);
  }
  expect(await last).toMatchObject({ code: 'AUTH_REFUSED' });
  await first;
  expect(refused).toBe(1);
});

it('a place that somebody else has for a moment is asked for again', async () => {
  let isTaken = true;
  await using server = await RawServer.start((socket) => {
    if (isTaken) socket.end('421 4.7.0 Too many connections\r\n');
    else speakSmtp(socket, (command) => (command.startsWith('EHLO') ? pipelining : undefined));
  });
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  const refused = await sender.send(message).catch(toMailError);
  expect(refused).toMatchObject({
    code: 'GREETING_DEFERRED',
    hint: expect.stringContaining('limits.connections'),
  });
  isTaken = false;
  expect(await sender.send(message)).toMatchObject({ status: 'sent' });
});

const many = (name: string, count: number) =>
  Array.from({ length: count }, (_, one) => `${name}${one}@x.org`);

describe.each([pipelining, '250 test'])('the others get a message although a server hangs up: %j', (ehlo) => {
  it.each([
    ['with 521 over each of nine', many('drop', 9), 10],
    // Postfix's smtpd_hard_error_limit.
    ['with 421 after every twenty that it does not know', many('bad', 45), 3],
  ])('%s', async (_how, gone, connections) => {
    let taken = 0;
    await using server = await RawServer.start((socket) => {
      let unknown = 0;
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return ehlo;
        if (command === '.') taken++;
        const isDropped = command.startsWith('RCPT TO:<drop');
        if (isDropped || unknown >= 20) {
          socket.end(isDropped ? '521 5.2.1 disabled\r\n' : '421 4.7.0 Error: too many errors\r\n');
          return null;
        }
        if (!command.startsWith('RCPT TO:<bad')) return undefined;
        unknown++;
        return '550 5.1.1 User unknown';
      });
    });
    await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
    const receipt = await sender.send({ ...message, to: ['first@x.org', ...gone, 'last@x.org'] });
    expect(receipt).toMatchObject({ status: 'partial', accepted: ['first@x.org', 'last@x.org'] });
    expect(receipt.rejected.map(({ address }) => address)).toEqual(gone);
    expect([taken, server.connections]).toEqual([1, connections]);
  });

  it('but not when all must have it: one that is refused is enough', async () => {
    await using server = await RawServer.start((socket) => {
      let unknown = 0;
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return ehlo;
        if (!command.startsWith('RCPT') || !command.includes('bad')) return undefined;
        if (++unknown <= 20) return '550 5.1.1 User unknown';
        socket.end('421 4.7.0 Error: too many errors\r\n');
        return null;
      });
    });
    await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
    for (const count of [5, 25]) {
      const sending = sender.send({ ...message, to: many('bad', count) }, { onPartial: 'fail' });
      expect(await sending.catch(toMailError)).toMatchObject({
        code: 'RECIPIENTS_REFUSED',
        retryable: false,
      });
    }
  });

  it('and 421 after a sender was refused is about the sender', async () => {
    await using server = await RawServer.start((socket) => {
      let refused = 0;
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return ehlo;
        if (!command.startsWith('RCPT')) return undefined;
        if (++refused <= 20) return '553 5.7.1 <a@x.org>: Sender address rejected: not owned by user';
        socket.end('421 4.7.0 Error: too many errors\r\n');
        return null;
      });
    });
    await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
    for (const count of [5, 25])
      expect(await sender.send({ ...message, to: many('r', count) }).catch(toMailError)).toMatchObject({
        ...{ code: 'SENDER_REFUSED', retryable: false },
      });
  });

  it('but not when everybody is refused for the sender', async () => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return ehlo;
        if (!command.startsWith('RCPT')) return undefined;
        socket.end('521 5.7.1 <a@x.org>: Sender address rejected: not owned by user\r\n');
        return null;
      }),
    );
    await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
    for (const to of ['b@x.org', ['b@x.org', 'c@x.org']]) {
      const error = await sender.send({ ...message, to }).catch(toMailError);
      expect(error).toMatchObject({ code: 'SENDER_REFUSED', phase: 'envelope', retryable: false });
    }
    expect(server.connections).toBe(2);
  });
});
