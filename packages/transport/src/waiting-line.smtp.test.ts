import { MailError, ManualClock } from '@flowpost/core';
import { HttpServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { createSender } from './create-sender.ts';

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };

/** An inbox that answers its first message when told to. */
async function inboxThatStalls() {
  const gate = Promise.withResolvers<undefined>();
  const begun = Promise.withResolvers<void>();
  let count = 0;
  const inbox = await SmtpInbox.start({
    refuse: {
      message() {
        if (count++ > 0) return undefined;
        begun.resolve();
        return gate.promise;
      },
    },
  });
  const { host, port } = inbox;
  const connection = { host, port, tls: 'none' as const };
  return { inbox, connection, begun: begun.promise, goOn: () => gate.resolve(undefined) };
}

it('who waits for a session uses no turn of a limit a minute, so nothing leaves in a burst after a stall', async () => {
  const clock = new ManualClock();
  const { inbox, connection, begun, goOn } = await inboxThatStalls();
  await using _ = inbox;
  const limits = { connections: 1, messagesPerMinute: 3 };
  await using sender = createSender({ ...connection, limits }, { clock });
  const sending = Array.from({ length: 8 }, () => sender.send(message));
  await begun;
  for (let minute = 0; minute < 5; minute++) {
    await new Promise(setImmediate);
    clock.advance(60_000);
  }
  goOn();
  await sending[0];
  // The first one was let through five minutes ago.
  await expect.poll(() => inbox.messages.length).toBe(4);
  // Of another sender several come and go meanwhile, one after another.
  await using other = createSender(connection);
  for (let index = 0; index < 5; index++) await other.send({ ...message, subject: 'Other' });
  const limited = () => inbox.messages.filter(({ subject }) => subject === 'Hi').length;
  expect(limited()).toBe(4);
  for (const left of [7, 8]) {
    clock.advance(60_000);
    await expect.poll(limited).toBe(left);
  }
  await Promise.all(sending);
});

it('sessions that a server ends while messages wait for their turns cost no minute, and no burst', async () => {
  const clock = new ManualClock();
  await using inbox = await SmtpInbox.start();
  const { host, port } = inbox;
  const limits = { connections: 2, messagesPerMinute: 2 };
  await using sender = createSender({ host, port, tls: 'none', limits }, { clock });
  const sending = Array.from({ length: 8 }, () => sender.send(message));
  for (const sent of [2, 4, 6, 8]) {
    await expect.poll(() => inbox.messages.length).toBe(sent);
    inbox.dropConnections();
    await expect.poll(() => inbox.openConnections).toBe(0);
    clock.advance(60_000);
  }
  await Promise.all(sending);
});

it('a session that opens late lets no more through at once than the limit', async () => {
  const clock = new ManualClock();
  const held: (() => void)[] = [];
  await using server = await RawServer.start((socket) => {
    held.push(() => speakSmtp(socket, () => undefined));
  });
  const limits = { connections: 5, messagesPerMinute: 5 };
  await using sender = createSender(
    { host: '127.0.0.1', port: server.port, tls: 'none', limits },
    { clock, closeDeadlineMs: 0 },
  );
  let left = 0;
  const options = { beforeData: () => void left++ };
  const sending = Array.from({ length: 20 }, () => sender.send(message, options).catch(() => undefined));
  await expect.poll(() => held.length).toBe(5);
  for (let minute = 0; minute < 3; minute++) {
    clock.advance(60_000);
    await new Promise(setImmediate);
  }
  for (const greet of held.splice(0)) greet();
  for (const most of [5, 10, 15]) {
    await expect.poll(() => left).toBe(most);
    // Those of the same minute would be on their way by now.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(left).toBe(most);
    clock.advance(60_000);
  }
  await Promise.all(sending);
});

it('what a server took in place of one session less is fetched before it waits', async () => {
  let open = 0;
  let refused = 0;
  const goOn = Promise.withResolvers<void>();
  await using server = await RawServer.start((socket) => {
    if (open >= 1) {
      refused++;
      socket.end(
        '432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending\r\n',
      );
      return;
    }
    open++;
    socket.on('close', () => open--);
    speakSmtp(socket, (command) => {
      if (command !== '.') return undefined;
      void goOn.promise.then(() => socket.write('250 taken\r\n'));
      return null;
    });
  });
  const begun = Promise.withResolvers<void>();
  await using files = await HttpServer.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/pdf', 'content-length': 12 * 1_048_576 });
    response.end(Buffer.alloc(12 * 1_048_576, 'x')).once('finish', begun.resolve);
  });
  const { host } = new URL(files.url('/'));
  const connection = {
    host: '127.0.0.1',
    port: server.port,
    tls: 'none' as const,
    limits: { connections: 5 },
  };
  await using sender = createSender(connection, { attachments: { urls: { allowedHosts: [host] } } });
  const session = Promise.withResolvers<void>();
  const first = sender.send(message, { beforeData: session.resolve });
  await session.promise;
  const second = sender.send(message);
  await expect.poll(() => refused).toBeGreaterThan(0);
  // Until the answer has been heard.
  await new Promise((resolve) => setTimeout(resolve, 100));
  const third = sender.send({ ...message, attachments: [{ kind: 'url', url: files.url('/report.pdf') }] });
  await begun.promise;
  goOn.resolve();
  await Promise.all([first, second, third]);
});

it.each(['mailFrom', 'message'] as const)(
  'a refusal in which a server tells of another login is about its message alone: %s',
  async (step) => {
    let count = 0;
    const text = '5.7.1 relay said [Error: 535 5.7.8 Authentication credentials invalid]';
    await using inbox = await SmtpInbox.start({
      refuse: { [step]: () => (++count === 2 ? { code: 550, text } : undefined) },
    });
    const { host, port } = inbox;
    const limits = { connections: 1, messagesPerMinute: 60 };
    await using sender = createSender({ host, port, tls: 'none', limits });
    const ends = await Promise.all(
      Array.from({ length: 5 }, () =>
        sender.send(message).then(
          ({ status }) => status,
          ({ code }) => code,
        ),
      ),
    );
    expect(ends).toEqual(['sent', 'AUTH_REFUSED', 'sent', 'sent', 'sent']);
  },
);

it.each([undefined, 1, 5, 600])(
  'a refused login ends all who wait for one, with a limit of %s a minute',
  async (messagesPerMinute) => {
    let tried = 0;
    await using inbox = await SmtpInbox.start({
      users: { u: 'right' },
      refuse: { auth: () => void tried++ },
    });
    const { host, port } = inbox;
    const auth = { kind: 'basic' as const, username: 'u', password: 'wrong' };
    const limits = { connections: 2, messagesPerMinute };
    await using sender = createSender({ host, port, tls: 'none', auth, limits });
    const ends = await Promise.all(
      Array.from({ length: 20 }, () => sender.send(message).catch(({ code }) => code)),
    );
    expect(new Set(ends)).toEqual(new Set(['AUTH_REFUSED']));
    expect(tried).toBeLessThanOrEqual(2);
  },
);

it.each([undefined, 60])(
  'who waits and is cancelled by the failure of another was not sent, with a limit of %s a minute',
  async (messagesPerMinute) => {
    const { inbox, connection, goOn } = await inboxThatStalls();
    await using _ = inbox;
    await using sender = createSender({ ...connection, limits: { connections: 1, messagesPerMinute } });
    const first = sender.send(message);
    const stop = new AbortController();
    const others = [1, 2].map(() => sender.send(message, { signal: stop.signal }).catch((error) => error));
    await new Promise(setImmediate);
    stop.abort(new MailError('DELIVERY_IN_DOUBT', 'of another message', { phase: 'confirm' }));
    for (const error of await Promise.all(others))
      expect(error).toMatchObject({ code: 'SEND_CANCELLED', phase: 'connect', inDoubt: false });
    goOn();
    await first;
  },
);

it('an attachment whose fetching ends with the failure of another message was not sent', async () => {
  await using inbox = await SmtpInbox.start();
  const asked = Promise.withResolvers<void>();
  await using files = await HttpServer.start(() => asked.resolve());
  const { host } = new URL(files.url('/'));
  const { port } = inbox;
  await using sender = createSender(
    { host: inbox.host, port, tls: 'none' },
    { attachments: { urls: { allowedHosts: [host] } } },
  );
  const attachments = [{ kind: 'url' as const, url: files.url('/report.pdf') }];
  const stop = new AbortController();
  const sending = sender.send({ ...message, attachments }, { signal: stop.signal });
  sending.catch(() => undefined);
  await asked.promise;
  stop.abort(new MailError('DELIVERY_IN_DOUBT', 'of another message', { phase: 'confirm' }));
  await expect(sending).rejects.toMatchObject({
    code: 'SEND_CANCELLED',
    phase: 'attachments',
    inDoubt: false,
  });
});

it('what a URL leads to is here before a message waits for its turn', async () => {
  const { inbox, connection, begun, goOn } = await inboxThatStalls();
  await using _ = inbox;
  const content = Buffer.alloc(12 * 1_048_576, 'x');
  const fetched = Promise.withResolvers<void>();
  await using files = await HttpServer.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/pdf', 'content-length': content.length });
    response.end(content).once('finish', fetched.resolve);
  });
  const { host } = new URL(files.url('/'));
  const attachments = { urls: { allowedHosts: [host] } };
  await using sender = createSender({ ...connection, limits: { connections: 1 } }, { attachments });
  const first = sender.send(message);
  const second = sender.send({
    ...message,
    attachments: [{ kind: 'url', url: files.url('/report.pdf') }],
  });
  await Promise.all([begun, fetched.promise]);
  expect(inbox.messages).toHaveLength(0);
  goOn();
  await Promise.all([first, second]);
  expect(inbox.messages[1]?.attachments[0]?.content).toEqual(content);
});
