import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionInput, EmailMessageInput } from '@flowpost/core';
import { RawServer, speakSmtp } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';

// An early envelope (RFC 2920 section 3.1) can be lost with the session it was said on. Its message has not left, and goes
// over another session as if nothing had been.

const timeouts = { connectMs: 2_000, greetingMs: 1_000, commandMs: 500, dataMs: 1_000, confirmMs: 1_000 };
const to = (...names: string[]) => ({
  ...{ from: 'a@x.org', to: names.map((name) => `${name}@x.org`), subject: 'Hi', text: 'Hello' },
});

interface Said {
  readonly command: string;
  readonly socket: Socket;
  /** How many messages have ended, with this one. */
  readonly ended: number;
  /** Whether it came with the end of the message before. */
  readonly isEarly: boolean;
}

/** A server with PIPELINING that takes everybody but `bad`, and keeps who got a message and how many envelopes came early. */
async function startServer(answer: (said: Said) => string | null | undefined) {
  const got: string[] = [];
  const seen = { early: 0 };
  const server = await RawServer.start((socket) => {
    let piece = 0;
    let endPiece = -1;
    let names: string[] = [];
    socket.on('data', () => piece++);
    speakSmtp(socket, (command) => {
      if (command.startsWith('EHLO')) return '250-test\r\n250 PIPELINING';
      const isEarly = piece === endPiece;
      if (command.startsWith('MAIL')) {
        names = [];
        if (isEarly) seen.early++;
      }
      const name = /^RCPT TO:<(\w+)@/.exec(command)?.[1];
      if (name === 'bad') return '550 5.1.1 no such user';
      if (name) names.push(name);
      if (command === '.') {
        endPiece = piece;
        got.push(names.join('+'));
      }
      return answer({ command, socket, ended: got.length, isEarly });
    });
  });
  const at = { host: '127.0.0.1', port: server.port, tls: 'none' } as const;
  return {
    ...{ got, seen },
    connection: { ...at, timeouts, limits: { connections: 1 } } satisfies ConnectionInput,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** What is answered to the end of a message. */
const toEnd =
  (answer: (ended: number, socket: Socket) => string | null | undefined) =>
  ({ command, ended, socket }: Said) =>
    command === '.' ? answer(ended, socket) : undefined;

/** Takes the message and hangs up. */
const takeAndClose = (socket: Socket): null => {
  socket.end('250 taken\r\n');
  return null;
};

/** One to get to know the server, then so many at once. */
async function sendMany(connection: ConnectionInput, count: number): Promise<void> {
  await using sender = createSender(connection);
  await sender.send(to('first'));
  await Promise.all(Array.from({ length: count }, (_, index) => sender.send(to(`m${index}`))));
}

it('is sent as it was composed, though an attachment is gone by now', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  await using _folder = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
  const path = join(folder, 'a.txt');
  // So long that it is read as it leaves.
  await writeFile(path, 'x'.repeat(300_000));
  await using server = await startServer(
    toEnd((ended, socket) => (ended === 2 ? takeAndClose(socket) : undefined)),
  );
  await using sender = createSender(server.connection, { attachments: { fileRoots: [folder] } });
  await sender.send(to('first'));
  const last: EmailMessageInput = { ...to('third'), attachments: [{ kind: 'file', path }] };
  const second = sender.send(to('second')).finally(() => rm(path));
  // Both are listened to from the beginning: the last one may fail before the file is gone.
  const both = await Promise.all([second, sender.send(last)]);
  expect(both.map(({ status }) => status)).toEqual(['sent', 'sent']);
  expect(server.got).toEqual(['first', 'second', 'third']);
});

it('keeps its turn', async () => {
  await using server = await startServer(
    toEnd((ended, socket) => (ended === 5 ? takeAndClose(socket) : undefined)),
  );
  await sendMany(server.connection, 40);
  // The one behind it may have been given the old session's place already.
  expect(server.got.indexOf('m4')).toBeLessThanOrEqual(6);
  expect(new Set(server.got).size).toBe(41);
});

it('is followed by other early ones when the server closes a session now and then', async () => {
  await using server = await startServer(
    toEnd((ended, socket) => (ended % 10 === 0 ? takeAndClose(socket) : undefined)),
  );
  await sendMany(server.connection, 60);
  expect(new Set(server.got).size).toBe(61);
  expect(server.seen.early).toBeGreaterThan(40);
});

it('is not tried again where it ends the session, when that has happened twice', async () => {
  await using server = await startServer(({ isEarly, command, socket }) => {
    if (!isEarly || command === '.') return undefined;
    socket.end();
    return null;
  });
  await sendMany(server.connection, 30);
  expect(server.got.toSorted()).toEqual(
    ['first', ...Array.from({ length: 30 }, (_, index) => `m${index}`)].toSorted(),
  );
  expect(server.seen.early).toBe(2);
});

it('of several recipients is said again when its answers belong to the message before', async () => {
  await using server = await startServer(
    toEnd((ended) => (ended === 2 ? '250 taken\r\n250 taken' : undefined)),
  );
  await using sender = createSender(server.connection);
  await sender.send(to('first'));
  const receipts = await Promise.all([
    sender.send(to('second')),
    sender.send(to('good', 'bad')),
    sender.send(to('after')),
  ]);
  expect(receipts).toMatchObject([
    { status: 'sent' },
    { status: 'partial', accepted: ['good@x.org'], rejected: [{ address: 'bad@x.org', code: 550 }] },
    { status: 'sent' },
  ]);
  expect(server.got.toSorted()).toEqual(['after', 'first', 'good', 'second']);
});

it.each(['451 4.3.0 later', '550 5.7.1 not you', '500 what'])(
  'is said again, in its turn, when the message before has a second answer: %s',
  async (second) => {
    await using server = await startServer(
      toEnd((ended) => (ended === 2 ? `250 taken\r\n${second}` : undefined)),
    );
    await sendMany(server.connection, 3);
    expect(server.got.toSorted()).toEqual(['first', 'm0', 'm1', 'm2']);
  },
);

it('does not call beforeData a second time: whoever was told that the message leaves decides anew', async () => {
  let socket: Socket | undefined;
  await using server = await startServer((said) => {
    socket = said.socket;
    return undefined;
  });
  await using sender = createSender(server.connection);
  await sender.send(to('first'));
  let calls = 0;
  const sent = sender.send(to('second'), {
    async beforeData() {
      calls++;
      socket?.end('421 too slow\r\n');
      await once(socket as Socket, 'close');
    },
  });
  await expect(sent).rejects.toMatchObject({
    code: 'CONNECTION_LOST',
    phase: 'envelope',
    retryable: true,
    inDoubt: false,
  });
  expect(calls).toBe(1);
  expect(server.got).toEqual(['first']);
});
