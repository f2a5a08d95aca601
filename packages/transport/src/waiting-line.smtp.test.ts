import { MailError, ManualClock } from '@flowpost/core';
import { HttpServer, SmtpInbox } from '@flowpost/testing';
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

it.each([undefined, 5, 600])(
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
