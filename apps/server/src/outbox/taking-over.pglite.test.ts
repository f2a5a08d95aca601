import { MailError } from '@flowpost/core';
import { expect, it } from 'vitest';
import { openOutbox } from '../testing/outbox-parts.test-support.ts';
import { DatabaseDuplicateStore } from './duplicate-store.ts';
import { judge } from './judgement.ts';

const refused = new MailError('MESSAGE_REFUSED', 'x').toJSON();

it('what somebody cancelled while it was in doubt, and was not sent, keeps nobody from sending the same', async () => {
  await using parts = await openOutbox();
  const { worker, database } = parts;
  await parts.put('a', 1, { policy: { onDoubt: 'resend' } });
  const [claim] = await parts.deliveries.claim(worker, 1);
  if (!claim) throw new Error('nothing was taken');
  const store = new DatabaseDuplicateStore(database, { ...claim, worker });
  expect(await store.reserve('key', 'hash', 60_000)).toMatchObject({ state: 'reserved' });
  await parts.deliveries.commit([claim], worker);
  const doubt = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm' }).toJSON();
  await parts.deliveries.recover([worker], refused, doubt);
  expect(await parts.deliveries.move(claim.id, ['queued'], 'cancelled')).toBe(true);
  const error = new MailError('MESSAGE_DEFERRED', '451', { phase: 'confirm', replyCode: 451 });
  const settlement = judge(claim, error, { keepsTrying: true, retryForMs: 1e9 });
  await parts.deliveries.settle([settlement], worker);
  expect(await parts.deliveries.get(claim.id)).toMatchObject({ state: 'cancelled' });
  const [id = ''] = await parts.put('twin', 1, { mode: 'sync' });
  const twin = new DatabaseDuplicateStore(database, { id, attempt: 1, worker, mode: 'async' });
  expect(await twin.reserve('key', 'hash', 60_000)).toMatchObject({ state: 'reserved' });
});

it('what somebody waited for and may have left with its process is found among those in doubt, and not forgotten', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1, { mode: 'sync' });
  expect(await parts.deliveries.commit([{ id, attempt: 1 }], parts.worker)).toEqual([true]);
  const doubt = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm' }).toJSON();
  expect(await parts.deliveries.recover([parts.worker], refused, doubt)).toMatchObject([
    { state: 'in-doubt' },
  ]);
  const { deliveries } = await parts.deliveries.list({ states: ['in-doubt'], limit: 10 });
  expect(deliveries).toMatchObject([{ id }]);
  expect(await parts.deliveries.depth()).toMatchObject([{ state: 'in-doubt', count: 1 }]);
  await parts.database.query("update flowpost.deliveries set updated_at = now() - interval '9 days'");
  await parts.deliveries.forget(1);
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'in-doubt' });
});

it('a worker that left something is not forgotten before that is taken over', async () => {
  await using parts = await openOutbox();
  const { worker, database } = parts;
  const known = () => database.query('select 1 from flowpost.workers where id = $1', [worker]);
  await database.query("insert into flowpost.workers (id, seen_at) values ($1, now() - interval '3 days')", [
    worker,
  ]);
  await parts.put('a', 1);
  await parts.deliveries.claim(worker, 1);
  await parts.deliveries.forget(1);
  expect(await known()).toHaveLength(1);
  await parts.deliveries.recover([worker], refused, refused);
  await parts.deliveries.forget(1);
  expect(await known()).toEqual([]);
});

it('one is taken however large it is', async () => {
  await using parts = await openOutbox();
  await parts.put('a', 2);
  expect(await parts.deliveries.claim(parts.worker, 2, { atMostBytes: 1 })).toHaveLength(1);
});

it('one that waits is not taken before its time, whenever a job comes for it', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1);
  await parts.deliveries.claim(parts.worker, 1);
  const nextAt = Date.now() + 3_600_000;
  await parts.deliveries.settle([{ id, attempt: 1, state: 'queued', nextAt }], parts.worker);
  await parts.database.query('update pgboss.job set start_after = now()');
  expect(await parts.deliveries.claim(parts.worker, 1)).toEqual([]);
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'queued' });
});

it('one that somebody puts back is tried for its whole time again', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1);
  await parts.deliveries.claim(parts.worker, 1);
  await parts.deliveries.settle([{ id, attempt: 1, state: 'failed', error: refused }], parts.worker);
  await parts.database.query("update flowpost.deliveries set tried_since = now() - interval '9 days'");
  await parts.deliveries.move(id, ['failed'], 'queued');
  const [claim] = await parts.deliveries.claim(parts.worker, 1);
  expect(Date.now() - (claim?.triedSince ?? 0)).toBeLessThan(60_000);
});
