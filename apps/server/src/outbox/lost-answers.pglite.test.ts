import { randomBytes, randomUUID } from 'node:crypto';
import { MemoryLogger } from '@flowpost/core';
import { createFlowScope } from '@flowpost/node-adapter';
import { SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { readConfig } from '../config.ts';
import { ConnectionStore } from '../connections/connection-store.ts';
import { HostAccess } from '../connections/host-access.ts';
import { type Database, storageError } from '../database/database.ts';
import { migrate } from '../database/migrate.ts';
import { openPglite } from '../database/pglite.ts';
import { Metrics } from '../observability/metrics.ts';
import { openSecretBox } from '../security/secret-keys.ts';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import { putDatabase } from '../testing/made-database.test-support.ts';
import type { NewDelivery } from './delivery.ts';
import { DeliveryRunner } from './delivery-runner.ts';
import { DeliveryStore } from './delivery-store.ts';
import { InHand } from './in-hand.ts';
import { Outbox, startBoss } from './outbox.ts';
import { SharedRate } from './shared-rate.ts';
import { OutboxWorker } from './worker.ts';

/** A database that does what it is asked, and of whose next transactions nobody hears that it did. */
function losing(database: Database): Database & { lose: number } {
  const wrapped = Object.create(database) as Database & { lose: number };
  wrapped.lose = 0;
  wrapped.transaction = async (work) => {
    const value = await database.transaction(work);
    if (wrapped.lose-- > 0) throw storageError(new Error('the connection was lost'));
    return value;
  };
  return wrapped;
}

async function open() {
  const folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  const database = await openPglite(`${folder.path}/db`);
  await migrate(database);
  const boss = await startBoss(database, () => undefined);
  const lossy = losing(database);
  const deliveries = new DeliveryStore(lossy, boss);
  const [worker, inHand] = [randomUUID(), new InHand()];
  const outbox = new Outbox(deliveries, worker, inHand);
  const box = await openSecretBox(undefined, `${folder.path}/keys`);
  const access = new HostAccess(readConfig({ FLOWPOST_DATA: folder.path }));
  const runner = new DeliveryRunner({
    ...{
      database,
      deliveries,
      worker,
      inHand,
      retryForMs: 60_000,
      concurrency: 300,
      writesAhead: true,
      cut: new AbortController().signal,
    },
    connections: new ConnectionStore(database, { box: box, userBox: box }, access),
    scope: createFlowScope({}),
    rate: new SharedRate(database),
    metrics: new Metrics(),
    logger: new MemoryLogger(),
  });
  const outboxWorker = new OutboxWorker({
    ...{ deliveries, runner, worker, inHand, concurrency: 10, pollMs: 50 },
    logger: new MemoryLogger(),
    isBusy: () => outbox.isBusy,
  });
  const delivery = async (url: string, mode: 'sync' | 'async'): Promise<NewDelivery> => ({
    ...{ id: randomUUID(), mode, nodeType: 'send-email', nodeId: 'n', messageId: `<${randomUUID()}@x.org>` },
    ...{ recipients: ['b@x.org'], subject: 'Hi', apiKey: 'k', lane: 'a' },
    request: {
      message: { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x' },
      policy: { retry: { attempts: 1 } } as never,
      unshared: false,
    },
    sealed: (await box.encrypt(JSON.stringify(url))).compact,
  });
  return {
    ...{ lossy, database, deliveries, outbox, outboxWorker, inHand, delivery },
    async [Symbol.asyncDispose]() {
      await outboxWorker.stop();
      await boss.stop({ graceful: false });
      await database[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

it('what was taken in without an answer is taken in once', async () => {
  await using inbox = await SmtpInbox.start();
  await using parts = await open();
  parts.lossy.lose = 2;
  const one = await parts.delivery(inbox.url, 'async');
  expect(await parts.outbox.put(one)).toBeUndefined();
  expect(await parts.database.query("select id from pgboss.job where name = 'deliveries'")).toHaveLength(1);
  parts.outboxWorker.start();
  await expect.poll(async () => (await parts.deliveries.get(one.id))?.state).toBe('sent');
  expect(inbox.messages).toHaveLength(1);
});

it('what is large is taken little by little, and all of it', async () => {
  await using inbox = await SmtpInbox.start();
  await using parts = await open();
  // Nothing that a database could make smaller.
  const text = randomBytes(3_000_000).toString('base64');
  const subjects = Array.from({ length: 12 }, (_, index) => `large ${index}`);
  for (const subject of subjects) {
    const one = await parts.delivery(inbox.url, 'async');
    const { message } = one.request;
    await parts.outbox.put({ ...one, request: { ...one.request, message: { ...message, subject, text } } });
  }
  const first = await parts.deliveries.claim(randomUUID(), 10);
  expect(first.length).toBeGreaterThan(0);
  expect(first.length).toBeLessThan(10);
  parts.outboxWorker.start();
  const taken = first.map(({ request }) => request.message.subject);
  const left = subjects.filter((subject) => !taken.includes(subject));
  await expect
    .poll(() => inbox.messages.map(({ subject }) => subject).toSorted(), { timeout: 20_000 })
    .toEqual(left.toSorted());
});

it('what was handed out without an answer is given back and sent, once', async () => {
  await using inbox = await SmtpInbox.start();
  await using parts = await open();
  const one = await parts.delivery(inbox.url, 'async');
  await parts.outbox.put(one);
  parts.lossy.lose = 1;
  parts.outboxWorker.start();
  await expect.poll(async () => (await parts.deliveries.get(one.id))?.state).toBe('sent');
  expect(inbox.messages).toHaveLength(1);
});

it('what was never answered, and waited for, has failed and was not sent', async () => {
  await using inbox = await SmtpInbox.start();
  await using parts = await open();
  parts.lossy.lose = Number.POSITIVE_INFINITY;
  const [waitedFor, left] = [
    await parts.delivery(inbox.url, 'sync'),
    await parts.delivery(inbox.url, 'async'),
  ];
  const answers = await Promise.allSettled([parts.outbox.put(waitedFor), parts.outbox.put(left)]);
  expect(answers).toMatchObject([
    { reason: { code: 'STORAGE_UNAVAILABLE', inDoubt: false, retryable: true } },
    { reason: { code: 'STORAGE_UNAVAILABLE', inDoubt: true, retryable: false } },
  ]);
  parts.lossy.lose = 0;
  parts.outboxWorker.start();
  await expect.poll(async () => (await parts.deliveries.get(waitedFor.id))?.state).toBe('failed');
  await expect.poll(async () => (await parts.deliveries.get(left.id))?.state).toBe('sent');
  expect(inbox.messages).toHaveLength(1);
});
