import { randomUUID } from 'node:crypto';
import {
  generateSecretKey,
  MailError,
  type MailErrorJson,
  SecretBox,
  SecretText,
  type SendReceipt,
  silentLogger,
} from '@flowpost/core';
import { expect, it, vi } from 'vitest';
import type { Database } from '../database/database.ts';
import { openOutbox } from '../testing/outbox-parts.test-support.ts';
import type { ClaimedDelivery } from './delivery.ts';
import { type Claim, ContinuedDuplicateStore, DatabaseDuplicateStore } from './duplicate-store.ts';
import { InHand } from './in-hand.ts';
import { judge, settlementOf } from './judgement.ts';
import { Recovery, type RecoveryOptions } from './recovery.ts';
import { DatabaseTokenStore } from './token-store.ts';
import { WaitingLines } from './waiting-lines.ts';

const receipt: SendReceipt = {
  ...{ status: 'sent', messageId: '<1@x.org>', accepted: ['b@x.org'], rejected: [], response: '250 ok\0' },
  ...{ attempts: 1, timings: { sessionMs: 0, composeMs: 0, deliverMs: 0, totalMs: 0 }, sizeBytes: 5 },
};
const refused = new MailError('MESSAGE_REFUSED', 'x').toJSON();

/** One delivery that was taken and has reserved a key with the duplicate guard. */
async function reserved(database: Database, claim: Claim): Promise<DatabaseDuplicateStore> {
  const store = new DatabaseDuplicateStore(database, claim);
  expect(await store.reserve('key', 'hash', 60_000)).toMatchObject({ state: 'reserved' });
  return store;
}

type Parts = Awaited<ReturnType<typeof openOutbox>>;

/** What another delivery of the same is told. */
async function asTwin(parts: Parts) {
  const [id = ''] = await parts.put('twin', 1, { mode: 'sync' });
  const claim: Claim = { id, attempt: 1, worker: parts.worker, mode: 'async' };
  return new DatabaseDuplicateStore(parts.database, claim).reserve('key', 'hash', 60_000);
}

it.each(['sent', 'failed'] as const)(
  'what was %s while the duplicate guard could not be told is told with the outcome',
  async (state) => {
    await using parts = await openOutbox();
    const [id = ''] = await parts.put('a', 1);
    await parts.deliveries.claim(parts.worker, 1);
    await reserved(parts.database, { id, attempt: 1, worker: parts.worker, mode: 'async' });
    const outcome = state === 'sent' ? { receipt } : { error: refused };
    await parts.deliveries.settle([{ id, attempt: 1, state, ...outcome }], parts.worker);
    expect(await asTwin(parts)).toMatchObject(
      state === 'sent' ? { state: 'sent', receipt: { messageId: '<1@x.org>' } } : { state: 'reserved' },
    );
  },
);

it('a receipt with what no database holds is remembered all the same', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1);
  await parts.deliveries.claim(parts.worker, 1);
  const store = await reserved(parts.database, { id, attempt: 1, worker: parts.worker, mode: 'async' });
  const again = await store.reserve('key', 'hash', 60_000);
  if (again.state !== 'reserved') throw new Error('not reserved');
  await store.remember('key', again.token, receipt);
  expect(await asTwin(parts)).toMatchObject({ receipt: { response: '250 ok\ufffd' } });
});

it('a cancelled delivery keeps nobody from sending the same', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1);
  await parts.deliveries.claim(parts.worker, 1);
  await reserved(parts.database, { id, attempt: 1, worker: parts.worker, mode: 'async' });
  await parts.deliveries.settle([{ id, attempt: 1, state: 'queued' }], parts.worker);
  expect(await parts.deliveries.move(id, ['queued'], 'cancelled')).toBe(true);
  expect(await asTwin(parts)).toMatchObject({ state: 'reserved' });
});

it.each([
  ['resend', 'queued'],
  ['hold', 'in-doubt'],
])('a message that may have left with its process is, by the policy %s, %s', async (onDoubt, state) => {
  await using parts = await openOutbox();
  await parts.put('a', 1, { policy: { onDoubt } });
  const [claim] = await parts.deliveries.claim(parts.worker, 1);
  if (!claim) throw new Error('nothing was taken');
  await parts.deliveries.commit([claim], parts.worker);
  const doubt = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm' }).toJSON();
  expect(await parts.deliveries.recover([parts.worker], refused, doubt)).toMatchObject([{ state }]);
  // Whatever comes of it, it was in doubt.
  expect(await parts.deliveries.get(claim.id)).toMatchObject({ state, error: { inDoubt: true } });
});

/** A message whose process was taken for dead as it may have been leaving. */
async function takenForDead(parts: Parts, onDoubt = 'resend') {
  await parts.put('a', 1, { policy: { onDoubt } });
  const [claim] = await parts.deliveries.claim(parts.worker, 1);
  if (!claim) throw new Error('nothing was taken');
  await parts.deliveries.commit([claim], parts.worker);
  const doubt = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm' }).toJSON();
  await parts.deliveries.recover([parts.worker], refused, doubt);
  return claim;
}

it('a message that its process says was sent is not sent again, though it was taken for dead', async () => {
  await using parts = await openOutbox();
  const claim = await takenForDead(parts);
  await parts.deliveries.settle([{ id: claim.id, attempt: 1, state: 'sent', receipt }], parts.worker);
  expect(await parts.deliveries.get(claim.id)).toMatchObject({ state: 'sent' });
  expect(await parts.deliveries.claim(parts.worker, 1)).toEqual([]);
});

it.each([
  ['what its process says was refused is not sent again', refused, 'failed'],
  [
    'what its process could not begin is sent again',
    new MailError('DELIVERY_CANCELLED', 'x', { phase: 'envelope' }).toJSON(),
    'queued',
  ],
  [
    'what its process knows no more about is sent again, as was wanted',
    new MailError('DELIVERY_IN_DOUBT', 'y', { phase: 'confirm' }).toJSON(),
    'queued',
  ],
] as const)('%s, though it was taken for dead', async (_, error, state) => {
  await using parts = await openOutbox();
  const claim = await takenForDead(parts);
  await parts.deliveries.settle(
    [{ id: claim.id, attempt: 1, state: error.inDoubt ? 'in-doubt' : 'failed', error }],
    parts.worker,
  );
  expect(await parts.deliveries.get(claim.id)).toMatchObject({ state });
});

it('what its process could not begin, as it was taken for dead, is neither in doubt nor lost', async () => {
  await using parts = await openOutbox();
  const { id, attempt } = await takenForDead(parts, 'hold');
  const [claim] = await parts.database.query<ClaimedDelivery>(
    'select id, attempt, attempt as tries, 0 as "triedSince", request from flowpost.deliveries join flowpost.delivery_requests using (id) where id = $1',
    [id],
  );
  const lost = new MailError('DELIVERY_CANCELLED', 'x', { phase: 'envelope' });
  const settlement = judge(claim as ClaimedDelivery, lost, { keepsTrying: true, retryForMs: 60_000 });
  // Whoever waited for it is told that it failed: nothing was sent, and he may try again.
  expect(judge(claim as ClaimedDelivery, lost, { keepsTrying: false, retryForMs: 60_000 }).state).toBe(
    'failed',
  );
  await parts.deliveries.settle([settlement], parts.worker);
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'queued', error: null });
  expect(await parts.deliveries.claim(parts.worker, 1)).toMatchObject([
    { id, attempt: attempt + 1, tries: 1 },
  ]);
  // Now it is somebody else's.
  await parts.deliveries.settle([settlement], parts.worker);
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'sending' });
});

it('tokens that were sealed with a key of another server are not missing, only out of reach', async () => {
  await using parts = await openOutbox();
  const [ours, others] = ['a', 'b'].map((id) => new SecretBox([generateSecretKey(id)]));
  if (!ours || !others) throw new Error('no keys');
  await new DatabaseTokenStore(parts.database, others).set('k', { refreshToken: new SecretText('R') });
  await expect(new DatabaseTokenStore(parts.database, ours).get('k')).rejects.toMatchObject({
    code: 'STORAGE_UNAVAILABLE',
    retryable: true,
    details: { reason: 'SECRET_KEY_MISSING' },
  });
});

it('an answer is not kept for what was tried again since', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1, { mode: 'sync' });
  const answerOf = async () =>
    (
      await parts.database.query<{ answer: unknown }>(
        'select answer from flowpost.deliveries where id = $1',
        [id],
      )
    )[0];
  await parts.deliveries.settle([{ id, attempt: 1, state: 'failed', error: refused }], parts.worker);
  await parts.deliveries.keepAnswer(id, 'first');
  expect(await answerOf()).toEqual({ answer: 'first' });
  await parts.deliveries.move(id, ['failed'], 'queued');
  await parts.deliveries.keepAnswer(id, 'late');
  expect(await answerOf()).toEqual({ answer: null });
});

it('those put off for want of a turn come before all others when they are due', async () => {
  await using parts = await openOutbox();
  const [first = ''] = await parts.put('a', 1);
  await parts.deliveries.claim(parts.worker, 1);
  await parts.put('b', 2);
  const putOff = { uncounted: true, keepsPlace: true, nextAt: Date.now() };
  await parts.deliveries.settle([{ id: first, attempt: 1, state: 'queued', ...putOff }], parts.worker);
  expect((await parts.deliveries.claim(parts.worker, 1)).map(({ id }) => id)).toEqual([first]);
});

/** What another process does that comes to the same database. */
const recoveryOf = (
  { database, deliveries }: Pick<RecoveryOptions, 'database' | 'deliveries'>,
  times: Pick<RecoveryOptions, 'beatMs' | 'silenceMs'>,
): Recovery =>
  new Recovery({
    ...{
      database,
      deliveries,
      ...times,
      logger: silentLogger,
      inHand: {} as never,
      onRecovered: () => undefined,
    },
    worker: '00000000-0000-4000-8000-000000000001',
  });

it('what an embedded database was left by a process with a clock ahead is taken over at the start', async () => {
  await using parts = await openOutbox();
  const { database, deliveries } = parts;
  const [id = ''] = await parts.put('a', 1);
  await database.query("insert into flowpost.workers (id, seen_at) values ($1, now() + interval '2 hours')", [
    parts.worker,
  ]);
  await deliveries.claim(parts.worker, 1);
  await database.query("update flowpost.deliveries set updated_at = now() + interval '2 hours'");
  const recovery = recoveryOf(parts, { beatMs: 1_000, silenceMs: 10_000 });
  await recovery.start();
  expect((await deliveries.get(id))?.state).toBe('queued');
  await recovery.stop();
});

it('a database that stood still makes nobody dead', async () => {
  await using parts = await openOutbox();
  const { database, deliveries } = parts;
  const [id = ''] = await parts.put('a', 1);
  await database.query("insert into flowpost.workers (id, seen_at) values ($1, now() - interval '1 hour')", [
    parts.worker,
  ]);
  await deliveries.claim(parts.worker, 1);
  // Answers each beat later than a process may be silent, as a database does that was stopped again and again.
  const asked: string[] = [];
  const slow = new Proxy(database, {
    get(target, name) {
      if (name === 'kind') return 'postgres';
      if (name !== 'query') return Reflect.get(target, name, target);
      return async (sql: string, values: unknown[]) => {
        asked.push(sql);
        if (isStopped) vi.setSystemTime(Date.now() + 1_000);
        return target.query(sql, values);
      };
    },
  });
  let isStopped = true;
  vi.useFakeTimers({ toFake: ['Date'] });
  const recovery = recoveryOf({ database: slow, deliveries }, { beatMs: 10, silenceMs: 100 });
  await recovery.start();
  const beats = () => asked.filter((sql) => sql.includes('seen_at = now()')).length;
  // Long enough for whoever goes by how long this has lasted.
  await expect.poll(beats).toBeGreaterThan(30);
  expect(asked.some((sql) => sql.startsWith('select id from flowpost.workers'))).toBe(false);
  isStopped = false;
  vi.useRealTimers();
  await expect.poll(async () => (await deliveries.get(id))?.state).toBe('queued');
  await recovery.stop();
});

it('whoever waits for the same limit waits in line', () => {
  const lines = new WaitingLines();
  expect([0, 0, 500, 9_000].map((first) => lines.place('a', first, 2_000))).toEqual([0, 2_000, 4_000, 9_000]);
  expect(lines.place('b', 100, 2_000)).toBe(100);
  // Nor longer than a minute, whatever became of those in front.
  for (let waiting = 0; waiting < 1_000; waiting++) lines.place('c', 0, 2_000);
  expect([lines.place('c', 500, 2_000), lines.place('c', 90_000, 2_000)]).toEqual([60_500, 90_000]);
});

it.each([
  [
    'was put off',
    new MailError('MESSAGE_DEFERRED', '451', { phase: 'confirm', replyCode: 451 }),
    'cancelled',
  ],
  ['could not begin', new MailError('DELIVERY_CANCELLED', 'x', { phase: 'envelope' }), 'cancelled'],
  ['is in doubt', new MailError('DELIVERY_IN_DOUBT', 'y', { phase: 'confirm' }), 'in-doubt'],
])(
  'what somebody cancelled is not sent again, though its process says that it %s',
  async (_, error, state) => {
    await using parts = await openOutbox();
    const claim = await takenForDead(parts);
    expect(await parts.deliveries.move(claim.id, ['queued'], 'cancelled')).toBe(true);
    const settlement = judge(claim, error, { keepsTrying: true, retryForMs: 1e9 });
    expect(settlement.state).toBe('queued');
    await parts.deliveries.settle([{ ...settlement, nextAt: Date.now() - 1_000 }], parts.worker);
    expect(await parts.deliveries.get(claim.id)).toMatchObject({ state });
    expect(await parts.deliveries.claim(parts.worker, 1)).toEqual([]);
  },
);

it('what somebody cancelled keeps the receipt of those who have it', async () => {
  await using parts = await openOutbox();
  const claim = await takenForDead(parts);
  await parts.deliveries.move(claim.id, ['queued'], 'cancelled');
  const some: SendReceipt = {
    ...receipt,
    status: 'partial',
    rejected: [{ address: 'c@x.org', code: 451, reply: '451' }],
  };
  const settlement = settlementOf(claim, some, { keepsTrying: true, retryForMs: 1e9 });
  expect(settlement.state).toBe('queued');
  await parts.deliveries.settle([settlement], parts.worker);
  expect(await parts.deliveries.get(claim.id)).toMatchObject({
    state: 'partial',
    receipt: { accepted: ['b@x.org'] },
  });
  expect(await parts.deliveries.claim(parts.worker, 1)).toEqual([]);
});

it('an outcome that is written again, because its answer was lost, counts once', async () => {
  await using parts = await openOutbox();
  const claim = await takenForDead(parts);
  const [again] = await parts.deliveries.claim(parts.worker, 1);
  if (!again) throw new Error('nothing was taken');
  const some: SendReceipt = {
    ...receipt,
    status: 'partial',
    rejected: [{ address: 'c@x.org', code: 452, reply: '452 4.5.3' }],
  };
  const settlement = settlementOf(again, some, { keepsTrying: true, retryForMs: 1e9 });
  expect(settlement).toMatchObject({ state: 'queued', uncounted: true });
  for (const _ of [1, 2, 3]) await parts.deliveries.settle([settlement], parts.worker);
  expect(await parts.deliveries.get(claim.id)).toMatchObject({ state: 'queued', attempt: 1 });
  const states = (await parts.deliveries.events(claim.id)).map((one) => one.state);
  expect(states).toEqual(['queued', 'sending', 'committing', 'queued', 'sending', 'queued']);
  expect((await parts.jobs()).map(({ count }) => count)).toEqual([1]);
});

it('a process that was taken for dead has no say about the key of a delivery that another one has', async () => {
  await using parts = await openOutbox();
  await parts.put('a', 1);
  const [late] = await parts.deliveries.claim(parts.worker, 1);
  await parts.deliveries.recover([parts.worker], refused, refused);
  const other = randomUUID();
  const [claim] = await parts.deliveries.claim(other, 1);
  if (!claim || !late) throw new Error('nothing was taken');
  const store = await reserved(parts.database, { ...claim, worker: other });
  const lateStore = new DatabaseDuplicateStore(parts.database, { ...late, worker: parts.worker });
  expect(await lateStore.reserve('key', 'hash', 60_000)).toEqual({ state: 'pending' });
  // One that had the key before it stood still has lost it.
  const again = await store.reserve('key', 'hash', 60_000);
  expect(again).toMatchObject({ state: 'reserved' });
  expect(await asTwin(parts)).toEqual({ state: 'pending' });
});

it('what a delivery sent before its process ended is no duplicate of another one', async () => {
  await using parts = await openOutbox();
  const [one = '', two = ''] = await parts.put('a', 2, { mode: 'sync' });
  const storeOf = (id: string) =>
    new DatabaseDuplicateStore(parts.database, { id, attempt: 1, worker: parts.worker, mode: 'sync' });
  const before = storeOf(one);
  const reservation = await before.reserve('key', 'hash', 60_000);
  await before.remember('key', reservation.state === 'reserved' ? reservation.token : '', receipt);
  for (const [id, isOwn] of [
    [one, true],
    [two, false],
  ] as const) {
    const store = storeOf(id);
    expect(await store.reserve('key', 'hash', 60_000)).toMatchObject({ state: 'sent' });
    expect(store.hasOwn).toBe(isOwn);
  }
});

it('a process that was taken for dead reserves nothing for what others decide about now', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1, { mode: 'sync' });
  await parts.deliveries.recover([parts.worker], refused, refused);
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'failed' });
  const late = new DatabaseDuplicateStore(parts.database, {
    id,
    attempt: 1,
    worker: parts.worker,
    mode: 'sync',
  });
  await expect(late.reserve('key', 'hash', 60_000)).rejects.toMatchObject({ code: 'DELIVERY_CANCELLED' });
  expect(await parts.database.query('select * from flowpost.duplicates')).toEqual([]);
});

it('how large deliveries are is what they take in memory, however well they are compressed', async () => {
  await using parts = await openOutbox();
  await parts.put('a', 3, { policy: { filler: 'x'.repeat(100_000) } });
  const claim = () => parts.deliveries.claim(parts.worker, 3, { atMostBytes: 250_000 });
  const sizes = (await claim()).map(({ bytes }) => bytes > 100_000);
  expect(sizes).toEqual([true, true]);
  expect(await claim()).toHaveLength(1);
});

it('a delivery is tried for its time from its first attempt, however long it waited for that', async () => {
  await using parts = await openOutbox();
  const { database, deliveries, worker } = parts;
  const [id = ''] = await parts.put('a', 1);
  const age = async () => {
    await database.query(
      "update flowpost.deliveries set next_at = now(), created_at = now() - interval '49 hours'",
    );
    const [claim] = await deliveries.claim(worker, 1);
    return Math.round((Date.now() - (claim?.triedSince ?? 0)) / 3_600_000);
  };
  const putBack = async (attempt: number, uncounted: boolean, error?: MailErrorJson) => {
    await deliveries.settle([{ id, attempt, state: 'queued', nextAt: Date.now(), error, uncounted }], worker);
    await database.query("update flowpost.deliveries set tried_since = tried_since - interval '5 hours'");
  };
  expect(await age()).toBe(0);
  await putBack(1, true);
  expect(await age()).toBe(0);
  // What fails for a reason of ours was tried, though it counts for nothing.
  await putBack(2, true, refused);
  expect(await age()).toBe(5);
  await putBack(3, false, refused);
  expect(await age()).toBe(10);
  await putBack(4, true);
  expect(await age()).toBe(15);
});

it('the window of the duplicate guard begins when a message was sent, and what is being sent stays reserved', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1, { mode: 'sync' });
  const store = await reserved(parts.database, { id, attempt: 1, worker: parts.worker, mode: 'sync' });
  const later = () =>
    parts.database.query("update flowpost.duplicates set expires_at = now() - interval '1 second'");
  await later();
  expect(await asTwin(parts)).toEqual({ state: 'pending' });
  const [row] = await parts.database.query<{ token: string }>('select token from flowpost.duplicates');
  await store.remember('key', row?.token ?? '', receipt);
  expect(await asTwin(parts)).toMatchObject({ state: 'sent' });
  await later();
  await parts.deliveries.settle([{ id, attempt: 1, state: 'in-doubt', error: refused }], parts.worker);
  expect(await asTwin(parts)).toMatchObject({ state: 'sent' });
  await later();
  expect(await asTwin(parts)).toMatchObject({ state: 'reserved' });
});

it('two that were taken in within the window are twins, however late the turn of one of them comes', async () => {
  await using parts = await openOutbox();
  const { database, deliveries, worker } = parts;
  const [sent = '', twin = '', before = ''] = await parts.put('a', 3);
  const claimOf = (id: string): Claim => ({ id, attempt: 1, worker, mode: 'async' });
  const reserve = (id: string) =>
    new DatabaseDuplicateStore(database, claimOf(id)).reserve('key', 'hash', 60_000);
  const settle = (id: string) => deliveries.settle([{ id, attempt: 1, state: 'sent', receipt }], worker);
  const isOver = (ago: string) =>
    database.query('update flowpost.duplicates set expires_at = now() - $1::interval', [ago]);
  await deliveries.claim(worker, 3);
  for (const [id, ago] of [
    [sent, '2 hours'],
    [twin, '2 hours'],
    [before, '3 hours'],
  ])
    await database.query('update flowpost.deliveries set created_at = now() - $2::interval where id = $1', [
      id,
      ago,
    ]);
  expect(await reserve(sent)).toMatchObject({ state: 'reserved' });
  await settle(sent);
  await isOver('1 hour');
  await deliveries.forget(30);
  expect(await reserve(twin)).toMatchObject({ state: 'sent' });
  await settle(twin);
  // An hour lies between them.
  expect(await reserve(before)).toMatchObject({ state: 'reserved' });
  await settle(before);
  await isOver('1 second');
  await deliveries.forget(30);
  expect(await database.query('select * from flowpost.duplicates')).toEqual([]);
});

it('what is old is forgotten a little at a time, however large it is', async () => {
  await using parts = await openOutbox();
  const { database, deliveries } = parts;
  await parts.put('a', 5);
  const original = database.query.bind(database);
  await database.query(`update flowpost.deliveries set open = false, updated_at = now() - interval '40 days',
    id = overlay(id::text placing '00000000' from 1 for 8)::uuid`);
  await database.query(`update flowpost.delivery_requests set bytes = 40 * 1048576,
    id = overlay(id::text placing '00000000' from 1 for 8)::uuid`);
  const forgotten: number[] = [];
  const query = vi.spyOn(database, 'query').mockImplementation(async (text, values) => {
    const rows = await original(text, values);
    if (text.includes('delete from flowpost.deliveries')) forgotten.push(rows.length);
    return rows as never;
  });
  await deliveries.forget(30);
  query.mockRestore();
  // Of 64 MiB together one each.
  expect(forgotten).toEqual([1, 1, 1, 1, 1, 0]);
  expect(await database.query('select 1 from flowpost.delivery_requests')).toEqual([]);
});

it('the window does not begin anew when nobody got anything, and does when nobody knows', async () => {
  await using parts = await openOutbox();
  const { database, deliveries, worker } = parts;
  const [id = ''] = await parts.put('a', 1);
  await deliveries.claim(worker, 1);
  await reserved(database, { id, attempt: 1, worker, mode: 'async' });
  const isOver = () =>
    database.query("update flowpost.duplicates set expires_at = now() - interval '1 second'");
  const leftMs = async () => {
    const [row] = await database.query<{ ms: number }>(
      'select (extract(epoch from expires_at - now()) * 1000)::float8 as ms from flowpost.duplicates',
    );
    return row?.ms ?? Number.NaN;
  };
  const partial: SendReceipt = { ...receipt, status: 'partial', attempts: 2 };
  await deliveries.settle([{ id, attempt: 1, state: 'partial', receipt: partial }], worker);
  expect(await leftMs()).toBeGreaterThan(50_000);
  await isOver();
  await database.query("update flowpost.deliveries set state = 'sending', worker = $1, open = true", [
    worker,
  ]);
  const refusedNow = { ...partial, attempts: 3 };
  await deliveries.settle([{ id, attempt: 1, state: 'partial', receipt: refusedNow }], worker);
  expect(await leftMs()).toBeLessThan(0);
  await database.query("update flowpost.deliveries set state = 'committing', worker = $1, open = true", [
    worker,
  ]);
  expect(await deliveries.recover([worker], refused, refused)).toMatchObject([{ state: 'in-doubt' }]);
  expect(await leftMs()).toBeGreaterThan(50_000);
});

it('an attempt whose delivery is in other hands no longer says what is remembered of it', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1);
  await parts.deliveries.claim(parts.worker, 1);
  const claim: Claim = { id, attempt: 1, worker: parts.worker, mode: 'async' };
  await reserved(parts.database, claim);
  await parts.deliveries.settle([{ id, attempt: 1, state: 'sent', receipt }], parts.worker);
  const partial: SendReceipt = { ...receipt, status: 'partial' };
  await new ContinuedDuplicateStore(parts.database, claim, () => partial).remember('key', '', partial);
  expect(await asTwin(parts)).toMatchObject({ state: 'sent', receipt: { status: 'sent' } });
});

it('the duplicate guard knows the last receipt of a delivery that went on', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1);
  const some: SendReceipt = {
    ...receipt,
    status: 'partial',
    rejected: [{ address: 'c@x.org', code: 451, reply: '451' }],
  };
  const all: SendReceipt = { ...receipt, accepted: ['b@x.org', 'c@x.org'] };
  const [first] = await parts.deliveries.claim(parts.worker, 1);
  if (!first) throw new Error('nothing was taken');
  const store = await reserved(parts.database, { ...first, worker: parts.worker });
  const own = await store.reserve('key', 'hash', 60_000);
  await store.remember('key', own.state === 'reserved' ? own.token : '', some);
  const settlement = settlementOf(first, some, { keepsTrying: true, retryForMs: 1e9 });
  await parts.deliveries.settle([{ ...settlement, nextAt: Date.now() - 1_000 }], parts.worker);
  const [second] = await parts.deliveries.claim(parts.worker, 1);
  if (!second) throw new Error('nothing was taken');
  // Its guard was not told, because the database was away.
  await parts.deliveries.settle(
    [settlementOf(second, all, { keepsTrying: true, retryForMs: 1e9 })],
    parts.worker,
  );
  expect(await parts.deliveries.get(id)).toMatchObject({ state: 'sent' });
  expect(await asTwin(parts)).toMatchObject({ state: 'sent', receipt: { accepted: all.accepted } });
});

it('a doubt names everybody once, whoever wrote him how', async () => {
  await using parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1, { policy: { onDoubt: 'resend' } });
  await parts.database.query('update flowpost.deliveries set recipients = $1', [['c@Bücher.example']]);
  const unconfirmed = ['c@xn--bcher-kva.example'];
  const lost = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm', details: { unconfirmed } });
  const [first] = await parts.deliveries.claim(parts.worker, 1);
  if (!first) throw new Error('nothing was taken');
  const settlement = judge(first, lost, { keepsTrying: true, retryForMs: 1e9 });
  await parts.deliveries.settle([{ ...settlement, nextAt: Date.now() - 1_000 }], parts.worker);
  const [second] = await parts.deliveries.claim(parts.worker, 1);
  if (!second) throw new Error('nothing was taken');
  await parts.deliveries.commit([second], parts.worker);
  await parts.deliveries.recover([parts.worker], refused, lost.toJSON());
  expect(await parts.deliveries.get(id)).toMatchObject({ error: { details: { unconfirmed } } });
});

it('a process that was taken for dead and claims it once more may send it once', async () => {
  await using parts = await openOutbox();
  await parts.put('a', 1);
  const [late] = await parts.deliveries.claim(parts.worker, 1);
  await parts.deliveries.recover([parts.worker], refused, refused);
  const [again] = await parts.deliveries.claim(parts.worker, 1);
  if (!late || !again) throw new Error('nothing was taken');
  // An attempt of before does not say that the one of now is leaving.
  expect(await parts.deliveries.commit([late], parts.worker)).toEqual([false]);
  expect(await parts.deliveries.get(again.id)).toMatchObject({ state: 'sending' });
  // Written down together, as the turns of both have come.
  expect(await parts.deliveries.commit([late, again], parts.worker)).toEqual([false, true]);
});

it('what a process is at twice it is at until both have ended', () => {
  const inHand = new InHand();
  const [late, again] = [
    { id: 'a', attempt: 1 },
    { id: 'a', attempt: 2 },
  ];
  for (const claim of [late, again, again]) inHand.take(claim);
  inHand.release(late);
  expect(inHand.attempts).toEqual([again]);
  inHand.release(again);
  expect(inHand.attempts).toEqual([]);
});

it('what was handed out unheard is given back, although a late attempt at the same delivery is in hand', async () => {
  await using parts = await openOutbox();
  const { deliveries, worker } = parts;
  const [id = ''] = await parts.put('a', 1);
  await deliveries.claim(worker, 1);
  const inHand = new InHand();
  inHand.take({ id, attempt: 1 });
  const giveBack = () => deliveries.recover([worker], refused, refused, () => inHand.attempts);
  expect(await giveBack()).toEqual([]);
  // Taken for dead, and handed out again, to nobody who heard of it.
  await deliveries.recover([worker], refused, refused);
  expect(await deliveries.claim(worker, 1)).toMatchObject([{ id, attempt: 2 }]);
  expect(await giveBack()).toMatchObject([{ state: 'queued' }]);
});
