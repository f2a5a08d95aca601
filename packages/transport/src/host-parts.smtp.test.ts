import {
  type DuplicateStore,
  type EmailMessageInput,
  type Logger,
  type Lookup,
  MemoryDuplicateStore,
  type TranscriptListener,
} from '@flowpost/core';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from './create-sender.ts';
import { withDuplicateGuard } from './guards/duplicate-guard.ts';

// What a host gives may fail in any way, at once, later or never, and a message is no less sent or refused for that.

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' } satisfies EmailMessageInput;
const broken = (): never => {
  throw new Error('broken');
};
const hanging = () => new Promise<never>(() => undefined);
const storeWith = (parts: Partial<DuplicateStore>): DuplicateStore =>
  Object.assign(new MemoryDuplicateStore(), parts);
const guardOf = (url: string, parts: Partial<DuplicateStore>) =>
  withDuplicateGuard(createSender(url), { store: storeWith(parts) });

describe('a store for duplicates', () => {
  it.each([
    ['keepDoubt', 'dot', 'DELIVERY_IN_DOUBT', true],
    ['release', 'greeting', 'CONNECTION_LOST', false],
    ['reserve', 'greeting', 'STORAGE_UNAVAILABLE', false],
  ] as const)('that fails at once in %s hides nothing', async (part, stage, code, inDoubt) => {
    await using server = await FaultServer.start({ stage, fault: 'fin' });
    await using guard = guardOf(`smtp://127.0.0.1:${server.port}?tls=none`, { [part]: broken });
    await expect(guard.send(message)).rejects.toMatchObject({ code, inDoubt });
  });

  it('that fails at once in remember leaves what was sent', async () => {
    await using inbox = await SmtpInbox.start();
    await using guard = guardOf(inbox.url, { remember: broken });
    expect((await guard.send(message)).status).toBe('sent');
  });

  it('that says nothing is not waited for longer than was allowed', async () => {
    await using inbox = await SmtpInbox.start();
    await using sent = guardOf(inbox.url, { remember: hanging });
    expect((await sent.send(message, { timeoutMs: 500 })).status).toBe('sent');
    await using unasked = guardOf(inbox.url, { reserve: hanging });
    await expect(unasked.send(message, { timeoutMs: 200 })).rejects.toMatchObject({
      ...{ code: 'SEND_TIMED_OUT', inDoubt: false },
    });
    await using failed = guardOf('smtp://127.0.0.1:1?tls=none', { release: hanging });
    await expect(failed.send(message, { timeoutMs: 200 })).rejects.toMatchObject({
      code: 'CONNECTION_REFUSED',
    });
  });

  it('that reserves after the caller has given up keeps nobody from sending', async () => {
    await using inbox = await SmtpInbox.start();
    const store = new MemoryDuplicateStore();
    const slow = Promise.withResolvers<void>();
    const late: DuplicateStore = Object.assign(Object.create(store), {
      reserve: (...given: Parameters<DuplicateStore['reserve']>) =>
        slow.promise.then(() => store.reserve(...given)),
      release: (...given: Parameters<DuplicateStore['release']>) => store.release(...given),
    });
    await using first = withDuplicateGuard(createSender(inbox.url), { store: late });
    await expect(first.send(message, { timeoutMs: 100 })).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
    slow.resolve();
    await new Promise(setImmediate);
    await using second = withDuplicateGuard(createSender(inbox.url), { store });
    expect((await second.send(message)).status).toBe('sent');
  });
});

it('loggers and listeners that fail later change nothing', async () => {
  await using inbox = await SmtpInbox.start();
  const later = async () => broken();
  const logger: Logger = { debug: later, info: later, warn: later, error: later };
  const transcript: TranscriptListener = later;
  await using sender = createSender(inbox.url, { logger });
  expect((await sender.send(message, { transcript })).status).toBe('sent');
  // What nobody caught would end the process in the next turn.
  await new Promise(setImmediate);
});

it.each([
  ['fails at once', broken, 'CONNECTION_LOST'],
  ['fails without a reason', () => Promise.reject(), 'CONNECTION_LOST'],
  ['gives nothing', async () => undefined, 'HOST_NOT_FOUND'],
])('a lookup that %s is a failure to reach the host', async (_, lookup, code) => {
  const connection = { host: 'mail.example', port: 25, tls: 'none' } as const;
  await using sender = createSender(connection, { lookup: lookup as unknown as Lookup });
  await expect(sender.send(message)).rejects.toMatchObject({ code, phase: 'resolve', inDoubt: false });
  const policy = { urls: { lookup: lookup as unknown as Lookup } };
  await using fetching = createSender(connection, { attachments: policy as object });
  const attachments = [{ kind: 'url' as const, url: 'https://files.example/a.pdf' }];
  await expect(fetching.send({ ...message, attachments })).rejects.toMatchObject({ category: 'attachment' });
});
