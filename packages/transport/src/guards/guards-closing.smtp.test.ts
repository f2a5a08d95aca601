import { setTimeout as delay } from 'node:timers/promises';
import {
  type DuplicateStore,
  type EmailMessageInput,
  MailError,
  MemoryDuplicateStore,
  type OutgoingMessage,
  parseMessage,
  type Reservation,
} from '@flowpost/core';
import { RawServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { contentHash } from './content-hash.ts';
import { withDuplicateGuard } from './duplicate-guard.ts';
import { continuedReceipt, refusedForNow } from './partial-receipt.ts';
import { withRetry } from './retry.ts';

const message = { from: 'a@x.org', to: 'b@x.org', text: 'Hello' } satisfies EmailMessageInput;
const later = { code: 451, text: '4.7.1 greylisted' };

describe('several recipients', () => {
  it.each([
    [['gone@x.org', 'grey@x.org'], 'accept'],
    [['grey@x.org', 'gone@x.org'], 'accept'],
    [['grey@x.org', 'gone@x.org'], 'fail'],
  ] as const)('%s, one refused for good and one for now, with %s', async (to, onPartial) => {
    let tries = 0;
    await using inbox = await SmtpInbox.start({
      refuse: {
        rcptTo: (address) => {
          if (address === 'gone@x.org') return { code: 550, text: '5.1.1 gone' };
          return tries++ === 0 ? later : undefined;
        },
      },
    });
    await using sender = withRetry(createSender(inbox.url), { attempts: 3, firstDelayMs: 1 });
    const sending = sender.send({ ...message, to }, { onPartial }).catch((error) => error);
    expect(await sending).toMatchObject(
      onPartial === 'accept'
        ? {
            status: 'partial',
            attempts: 2,
            accepted: ['grey@x.org'],
            rejected: [{ address: 'gone@x.org', code: 550 }],
          }
        : { code: 'RECIPIENTS_REFUSED', retryable: false },
    );
  });
});

describe('closing', () => {
  it('ends waiting for another attempt at once, with what failed', async () => {
    let refused = 0;
    const mailFrom = () => {
      refused++;
      return later;
    };
    await using inbox = await SmtpInbox.start({ refuse: { mailFrom } });
    const sender = withRetry(createSender(inbox.url), { attempts: 3, firstDelayMs: 60_000 });
    const sending = sender.send(message).catch((error) => error);
    await expect.poll(() => refused).toBe(1);
    await sender[Symbol.asyncDispose]();
    expect(await sending).toMatchObject({
      code: 'SENDER_DEFERRED',
      retryable: true,
      details: { attempts: 1 },
    });
    // Closed beneath it, while it waits.
    const inner = createSender(inbox.url);
    const outer = withRetry(inner, { attempts: 3, firstDelayMs: 300 });
    const waiting = outer.send(message).catch((error) => error);
    await expect.poll(() => refused).toBe(2);
    await inner[Symbol.asyncDispose]();
    expect(await waiting).toMatchObject({ code: 'SENDER_DEFERRED', retryable: true });
  });

  it.each([Number.POSITIVE_INFINITY, 30 * 86_400_000])(
    'waits for %s ms when told to',
    async (closeDeadlineMs) => {
      const arrived = Promise.withResolvers<void>();
      await using inbox = await SmtpInbox.start({
        refuse: {
          message: () => {
            arrived.resolve();
            return delay(300).then(() => undefined);
          },
        },
      });
      const sender = createSender(inbox.url, { closeDeadlineMs });
      const sending = sender.send(message);
      await arrived.promise;
      await sender[Symbol.asyncDispose]();
      expect(await sending).toMatchObject({ status: 'sent' });
    },
  );
});

describe('time allowed', () => {
  it('is for all attempts and the waiting between them together', async () => {
    await using silent = await RawServer.start(() => undefined);
    await using unheard = withRetry(createSender(`smtp://127.0.0.1:${silent.port}?tls=none`), {
      firstDelayMs: 50,
    });
    await expect(unheard.send(message, { timeoutMs: 300 })).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
    let asked = 0;
    const refuse = { mailFrom: () => (asked++ === 0 ? later : undefined) };
    await using inbox = await SmtpInbox.start({ refuse });
    await using putOff = withRetry(createSender(inbox.url), { firstDelayMs: 20_000 });
    await expect(putOff.send(message, { timeoutMs: 300 })).rejects.toMatchObject({ code: 'SENDER_DEFERRED' });
    // Nobody asked again, and nobody sat through the wait.
    expect(silent.connections).toBe(1);
    expect(asked).toBe(1);
  });

  it.each([
    [1_500.25, undefined],
    [Number.POSITIVE_INFINITY, undefined],
    [-3, 'SEND_TIMED_OUT'],
    [Number.NaN, 'INPUT_INVALID'],
  ])('%s ms', async (timeoutMs, code) => {
    await using inbox = await SmtpInbox.start();
    await using plain = createSender(inbox.url);
    const store = new MemoryDuplicateStore();
    for (const sender of [plain, withRetry(plain), withDuplicateGuard(plain, { store })]) {
      const outcome = await sender.send(message, { timeoutMs }).catch((error) => error);
      expect(outcome).toMatchObject(code === undefined ? { status: 'sent' } : { code });
    }
  });
});

it('a reservation that is made after the caller gave up is given back', async () => {
  const reserved = Promise.withResolvers<Reservation>();
  const released: string[] = [];
  const store: DuplicateStore = {
    reserve: () => reserved.promise,
    remember: async () => undefined,
    release: async (_, token) => void released.push(token),
  };
  await using guard = withDuplicateGuard(createSender('smtp://127.0.0.1:2'), { store });
  await expect(guard.send(message, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
  reserved.resolve({ state: 'reserved', token: 'late' });
  await expect.poll(() => released).toEqual(['late']);
});

it('whatever fails is a MailError', async () => {
  await using inbox = await SmtpInbox.start();
  await using plain = createSender(inbox.url);
  const down: DuplicateStore = {
    reserve: () => Promise.reject(new Error('db down')),
    remember: () => Promise.resolve(),
    release: () => Promise.resolve(),
  };
  await using guard = withDuplicateGuard(plain, { store: down });
  await expect(guard.send(message)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', retryable: true });
  const nothing = undefined as unknown as OutgoingMessage;
  await using over = withDuplicateGuard(plain, { store: new MemoryDuplicateStore() });
  for (const sender of [plain, withRetry(plain), over]) {
    await expect(sender.send(nothing)).rejects.toMatchObject({ category: 'input' });
    const attachments = [null] as unknown as OutgoingMessage['attachments'];
    await expect(sender.send({ ...message, attachments })).rejects.toMatchObject({ category: 'input' });
  }
});

it('a message without From gets that of the connection', async () => {
  await using inbox = await SmtpInbox.start();
  await using sender = createSender({ host: '127.0.0.1', port: inbox.port, from: 'Robot <robot@x.org>' });
  const content: Buffer = Buffer.from('pdf');
  await sender.send({ to: 'b@x.org', text: 'Hello', attachments: [{ kind: 'bytes', content }] });
  expect(inbox.messages[0]?.envelope.from).toBe('robot@x.org');
});

it('the same content is the same however it is written', () => {
  const whole = {
    ...message,
    ...{
      subject: 'Hi',
      replyTo: 'q@x.org',
      sender: 's@x.org',
      headers: { 'X-One': '1', 'X-Two': ['a', 'b'] },
    },
  };
  const same = [
    { ...whole, from: { address: 'a@X.ORG' } },
    { ...whole, replyTo: ['q@x.org'], sender: [{ address: 's@x.org' }] },
    { ...whole, priority: 'normal', attachments: [], cc: [], references: [] },
    { ...whole, headers: { 'x-two': ['a', 'b'], 'x-one': '1' } },
    parseMessage(whole),
  ] as OutgoingMessage[];
  for (const one of same) expect(contentHash(one)).toBe(contentHash(whole));
  const others = [
    { ...whole, from: 'Ann <a@x.org>' },
    { ...whole, priority: 'high' },
    { ...whole, headers: { 'X-One': '1', 'X-Two': ['b', 'a'] } },
    { ...whole, text: undefined, html: 'Hello' },
    { ...whole, sender: undefined },
  ] as OutgoingMessage[];
  expect(new Set([whole, ...others].map((one) => contentHash(one))).size).toBe(others.length + 1);
});

it('an error about some of those who were refused says nothing of the others', () => {
  const refusal = (address: string, code: number) => ({ address, code, reply: `${code} later` });
  const earlier = {
    status: 'partial',
    ...{ messageId: '<a@x>', accepted: ['a'], response: 'ok', attempts: 1, sizeBytes: 1 },
    rejected: [refusal('b', 452), refusal('c', 452)],
    timings: { sessionMs: 0, composeMs: 0, deliverMs: 0, totalMs: 0 },
  } as const;
  const failed = new MailError('RECIPIENTS_DEFERRED', 'x', { details: { rejected: [refusal('b', 450)] } });
  const known = continuedReceipt(earlier, ['b', 'c'], failed);
  expect(known.rejected.map(({ address, code }) => [address, code])).toEqual([
    ['b', 450],
    ['c', 452],
  ]);
  expect(refusedForNow(known)).toEqual(['b', 'c']);
  expect(continuedReceipt(earlier, ['b', 'c'], new MailError('CONNECTION_LOST', 'x'))).toBe(earlier);
});
