import { MailError, type SendReceipt } from '@flowpost/core';
import { expect, it } from 'vitest';
import { openOutbox } from '../testing/outbox-parts.test-support.ts';
import { DatabaseDuplicateStore } from './duplicate-store.ts';

const doubt = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm' }).toJSON();
const receipt: SendReceipt = {
  ...{ status: 'sent', messageId: '<1@x.org>', accepted: ['b@x.org'], rejected: [], response: '250 ok' },
  ...{ attempts: 1, timings: { sessionMs: 0, composeMs: 0, deliverMs: 0, totalMs: 0 }, sizeBytes: 5 },
};
const partial: SendReceipt = {
  ...receipt,
  status: 'partial',
  rejected: [{ address: 'c@x.org', code: 550, reply: '550' }],
};

type Parts = Awaited<ReturnType<typeof openOutbox>>;

/** A delivery in doubt that holds a key, and what another one of the same is told. */
async function inDoubt(parts: Parts, more: { readonly receipt?: SendReceipt } = {}) {
  const { worker, database } = parts;
  await parts.put('a', 1);
  const [claim] = await parts.deliveries.claim(worker, 1);
  if (!claim) throw new Error('nothing was taken');
  await new DatabaseDuplicateStore(database, { ...claim, worker }).reserve('key', 'hash', 60_000);
  await parts.deliveries.commit([claim], worker);
  await parts.deliveries.settle([{ ...claim, state: 'in-doubt', error: doubt, ...more }], worker);
  const twin = async (mode: 'sync' | 'async', hash = 'hash') => {
    const [id = ''] = await parts.put('twin', 1, { mode: 'sync' });
    return new DatabaseDuplicateStore(database, { id, attempt: 1, worker, mode }).reserve(
      'key',
      hash,
      60_000,
    );
  };
  return { id: claim.id, twin };
}

it('whoever waits is told of the doubt about a twin, and what is in the outbox waits for its end', async () => {
  await using parts = await openOutbox();
  const { twin } = await inDoubt(parts);
  expect(await twin('sync')).toMatchObject({ state: 'in-doubt', error: { code: 'DELIVERY_IN_DOUBT' } });
  expect(await twin('async')).toEqual({ state: 'pending' });
  expect(await twin('async', 'another')).toEqual({ state: 'conflict' });
});

it('what somebody says was not sent keeps nobody from sending the same', async () => {
  await using parts = await openOutbox();
  const { id, twin } = await inDoubt(parts);
  expect(await parts.deliveries.move(id, ['in-doubt'], 'failed')).toBe(true);
  expect(await twin('async')).toMatchObject({ state: 'reserved' });
});

it('what some have, somebody says that the others have not, is what others who send the same are told', async () => {
  await using parts = await openOutbox();
  const { id, twin } = await inDoubt(parts, { receipt: partial });
  expect(await parts.deliveries.move(id, ['in-doubt'], 'failed')).toBe(true);
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'partial' });
  expect(await twin('async')).toMatchObject({ state: 'sent', receipt: { accepted: ['b@x.org'] } });
});

it('a key that was reserved for what may have been delivered before is not given up by a failure', async () => {
  await using parts = await openOutbox();
  const { worker, database } = parts;
  const [id = ''] = await parts.put('a', 1, { mode: 'sync' });
  const store = new DatabaseDuplicateStore(
    database,
    { id, attempt: 1, worker, mode: 'sync' },
    { keeps: true },
  );
  const own = await store.reserve('key', 'hash', 60_000);
  if (own.state !== 'reserved') throw new Error('not reserved');
  await store.release('key', own.token);
  const [twin = ''] = await parts.put('twin', 1, { mode: 'sync' });
  const other = new DatabaseDuplicateStore(database, { id: twin, attempt: 1, worker, mode: 'async' });
  expect(await other.reserve('key', 'hash', 60_000)).toEqual({ state: 'pending' });
});
