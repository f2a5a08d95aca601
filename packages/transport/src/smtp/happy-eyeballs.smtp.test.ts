import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, connect as open } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { MailError } from '@flowpost/core';
import { createTestCertificates, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { withRetry } from '../guards/retry.ts';
import { AddressRecord, connectToAny } from './happy-eyeballs.ts';

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
const v4 = (address: string) => ({ address, family: 4 });

/** A server that takes connections when it is told to; until then the kernel takes a few, and has the others try again. */
const sleepy = `
  const server = require('node:net').createServer(() => undefined);
  server.listen({ host: '127.0.0.2', port: 0, backlog: 1 }, () => console.log(server.address().port));
`;

it.skipIf(process.platform !== 'linux')('who takes his time is not given up for it', async () => {
  const child = spawn(process.execPath, ['-e', sleepy]);
  const port = Number(String((await once(child.stdout, 'data'))[0]));
  child.kill('SIGSTOP');
  const full = Array.from({ length: 10 }, () => open(port, '127.0.0.2').on('error', () => undefined));
  try {
    await expect.poll(() => full.filter(({ connecting }) => !connecting).length).toBeGreaterThan(0);
    // Nobody listens at the second address.
    const connecting = connectToAny([v4('127.0.0.2'), v4('127.0.0.3')], port, 30_000, undefined);
    // Longer than until the second one is tried.
    await delay(500);
    child.kill('SIGCONT');
    const socket = await connecting;
    expect(socket.remoteAddress).toBe('127.0.0.2');
    socket.destroy();
  } finally {
    for (const socket of full) socket.destroy();
    child.kill('SIGKILL');
  }
});

it('the next address is tried at once when one refuses, and all that failed is told', async () => {
  const server = createServer((socket) => socket.end());
  server.listen(0, '127.0.0.3');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const addresses = [v4('127.0.0.1'), { address: '::1', family: 6 }, v4('127.0.0.3')];
  const socket = await connectToAny(addresses, port, 30_000, undefined);
  expect(socket.remoteAddress).toBe('127.0.0.3');
  // The other side ends it, and so does this one, as every socket does.
  socket.resume();
  await once(socket, 'close');
  server.close();
  await expect(connectToAny(addresses.slice(0, 2), port, 30_000, undefined)).rejects.toMatchObject({
    errors: [{ code: 'ECONNREFUSED' }, { code: expect.any(String) }],
  });
});

it('a signal ends it with its reason', async () => {
  const controller = new AbortController();
  const reason = new MailError('SEND_CANCELLED', 'no');
  const connecting = connectToAny([v4('127.0.0.1')], 1, 30_000, controller.signal);
  controller.abort(reason);
  await expect(connecting).rejects.toBe(reason);
});

it.each([
  ['says 421', '421 4.3.2 shutting down\r\n', 1],
  // Who says nothing is asked once more whether he wants TLS from the first byte.
  ['closes', '', 2],
])('an address whose server %s is asked last from then on', async (_, greeting, times) => {
  await using inbox = await SmtpInbox.start();
  let asked = 0;
  const bad = createServer((socket) => {
    asked++;
    socket.on('error', () => undefined).end(greeting);
  });
  bad.listen(inbox.port, '127.0.0.2');
  await once(bad, 'listening');
  const lookup = async () => [v4('127.0.0.2'), v4('127.0.0.1')];
  const connection = { host: 'mail.example', port: inbox.port, tls: 'none', limits: { idleMs: 1 } } as const;
  const sender = createSender(connection, { lookup });
  await using retrying = withRetry(sender, { attempts: 2, firstDelayMs: 1 });
  expect(await retrying.send(message)).toMatchObject({ status: 'sent', attempts: 2 });
  expect(await retrying.send(message, { closeSession: true })).toMatchObject({ attempts: 1 });
  expect(await retrying.send(message)).toMatchObject({ attempts: 1 });
  expect([asked, inbox.messages.length]).toEqual([times, 3]);
  bad.close();
});

it('an address that breaks off in the handshake is asked last from then on', async () => {
  const { valid, authority } = await createTestCertificates(['mail.example']);
  await using inbox = await SmtpInbox.start({ tls: 'implicit', certificate: valid });
  const bad = createServer((socket) => socket.on('error', () => undefined).destroy());
  bad.listen(inbox.port, '127.0.0.2');
  await once(bad, 'listening');
  const lookup = async () => [v4('127.0.0.2'), v4('127.0.0.1')];
  const connection = {
    host: 'mail.example',
    port: inbox.port,
    tls: 'implicit' as const,
    tlsOptions: { ca: authority.cert },
  };
  const sender = createSender(connection, { lookup });
  await using retrying = withRetry(sender, { attempts: 2, firstDelayMs: 1 });
  expect(await retrying.send(message)).toMatchObject({ status: 'sent', attempts: 2 });
  bad.close();
});

it('families take turns, and what did not serve is last of all, until it is forgotten for a hundred others', () => {
  const record = new AddressRecord();
  const all = [v4('10.0.0.1'), v4('10.0.0.2'), { address: '::1', family: 6 }];
  const order = () => record.inOrder(all).map(({ address }) => address);
  expect(order()).toEqual(['10.0.0.1', '::1', '10.0.0.2']);
  record.failed('::1');
  expect(order()).toEqual(['10.0.0.1', '10.0.0.2', '::1']);
  for (let number = 0; number < 100; number++) record.failed(`10.1.0.${number}`);
  expect(order()).toEqual(['10.0.0.1', '::1', '10.0.0.2']);
});

it('421 to the empty message of one whose recipients were all refused ends the session', async () => {
  await using server = await RawServer.start((socket, connection) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return '250-x\r\n250 PIPELINING';
      if (connection > 1) return undefined;
      if (command.startsWith('RCPT')) return '550 5.1.1 unknown';
      // From then on it is silent, and leaves the connection open.
      return command === '.'
        ? '421 4.3.2 bye'
        : command === 'RSET' || command.startsWith('MAIL FROM:<later')
          ? null
          : undefined;
    }),
  );
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  await expect(sender.send(message)).rejects.toMatchObject({ code: 'RECIPIENTS_REFUSED' });
  expect(await sender.send(message)).toMatchObject({ status: 'sent' });
  expect(server.connections).toBe(2);
});

it('421 to a message ends the session, and the next message has another one', async () => {
  await using server = await RawServer.start((socket, connection) =>
    speakSmtp(socket, (command) => (command === '.' && connection === 1 ? '421 4.7.0 later' : undefined)),
  );
  await using sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
  await expect(sender.send(message)).rejects.toMatchObject({ code: 'MESSAGE_DEFERRED', inDoubt: false });
  expect(await sender.send(message)).toMatchObject({ status: 'sent' });
  expect(server.connections).toBe(2);
});
