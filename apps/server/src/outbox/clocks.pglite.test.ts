import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  generateSecretKey,
  MailError,
  SecretBox,
  SecretText,
  type SendReceipt,
  silentLogger,
} from '@flowpost/core';
import { expect, it } from 'vitest';
import { openOutbox } from '../testing/outbox-parts.test-support.ts';
import { InHand } from './in-hand.ts';
import { Recovery } from './recovery.ts';
import { DatabaseTokenStore } from './token-store.ts';

// The clock of the database is not that of this machine, and people set both.

const hours = (ms: number) => Math.round(ms / 3_600_000);
const ours = new MailError('STORAGE_UNAVAILABLE', 'x', { retryable: true }).toJSON();
const partial: SendReceipt = {
  ...{ status: 'partial', messageId: '<1@x.org>', accepted: ['b@x.org'], response: '250 ok' },
  rejected: [{ address: 'c@x.org', code: 452, reply: '452 4.5.3 too many' }],
  ...{ attempts: 1, timings: { sessionMs: 0, composeMs: 0, deliverMs: 0, totalMs: 0 }, sizeBytes: 5 },
};

it.each([
  ['for a reason of ours', { error: ours }],
  ['for those who were too many', { receipt: partial, retryTo: ['c@x.org'] }],
])(
  'what is tried again %s counts from its first attempt, also when it is put off in between',
  async (_, how) => {
    await using parts = await openOutbox();
    const { deliveries, database, worker } = parts;
    const [id = ''] = await parts.put('a', 1);
    const tried: number[] = [];
    for (let attempt = 1; attempt <= 4; attempt++) {
      const [claim] = await deliveries.claim(worker, 1);
      tried.push(hours(Date.now() - (claim?.triedSince ?? 0)));
      const outcome = attempt % 2 ? how : { keepsPlace: true };
      await deliveries.settle(
        [{ id, attempt, state: 'queued', nextAt: Date.now(), uncounted: true, ...outcome }],
        worker,
      );
      await database.query("update flowpost.deliveries set tried_since = tried_since - interval '5 hours'");
    }
    expect(tried).toEqual([0, 5, 10, 15]);
  },
);

it('what waits when the clock is set back waits no longer than it was meant to', async () => {
  await using parts = await openOutbox();
  const { deliveries, database, worker } = parts;
  const ids = await parts.put('a', 3);
  const [first = '', second = '', later = ''] = ids;
  for (const claim of await deliveries.claim(worker, 3)) {
    const nextAt = Date.now() + (claim.id === later ? 20_000 : -1);
    const { id, attempt } = claim;
    await deliveries.settle([{ id, attempt, state: 'queued', error: ours, nextAt }], worker);
  }
  await parts.put('b', 1);
  // As it is after the clock was set back: everything was written an hour from now.
  await database.query(
    `update flowpost.deliveries set updated_at = updated_at + interval '1 hour', next_at = next_at + interval '1 hour'`,
  );
  await database.query(`update pgboss.job set start_after = start_after + interval '1 hour'`);
  expect(await deliveries.claim(worker, 10)).toEqual([]);
  expect(await deliveries.bringForward()).toBe(4);
  const claimed = await deliveries.claim(worker, 10);
  expect(claimed.map(({ id }) => id)).toEqual(expect.arrayContaining([first, second]));
  expect(claimed).toHaveLength(3);
  const [left] = await database.query<{ wait: number; jobs: number }>(
    `select extract(epoch from d.next_at - now())::float8 as wait, count(j.id)::int as jobs
     from flowpost.deliveries d join pgboss.job j on j.data -> 'deliveries' ? d.id::text
     where d.id = $1 group by d.next_at`,
    [later],
  );
  expect(left?.jobs).toBe(1);
  expect(left?.wait).toBeGreaterThan(10);
  expect(left?.wait).toBeLessThan(21);
  // What waits as it should is left alone.
  expect(await deliveries.bringForward()).toBe(0);
});

it('who says something is alive, however long ago that was by the clock of the database', async () => {
  await using parts = await openOutbox();
  const { deliveries, database } = parts;
  const other = randomUUID();
  const [id = ''] = await parts.put('a', 1);
  const say = () =>
    database.query(
      `insert into flowpost.workers (id, seen_at) values ($1, now() - interval '1 hour')
       on conflict (id) do update set seen_at = excluded.seen_at`,
      [other],
    );
  const stateNow = async () => (await deliveries.get(id))?.state;
  const recovery = new Recovery({
    ...{ database, deliveries, logger: silentLogger, worker: parts.worker, inHand: new InHand() },
    ...{ beatMs: 20, silenceMs: 200, onRecovered: () => undefined },
  });
  await recovery.start();
  await say();
  const [claim] = await deliveries.claim(other, 1);
  await deliveries.commit(claim ? [claim] : [], other);
  for (let beat = 0; beat < 25; beat++) {
    await say();
    await delay(20);
  }
  expect(await stateNow()).toBe('committing');
  await expect.poll(stateNow).toBe('in-doubt');
  await recovery.stop();
});

it('one process at a time asks for a token, however long that takes', async () => {
  await using parts = await openOutbox();
  const box = new SecretBox([generateSecretKey()]);
  const [one, other] = [0, 1].map(() => new DatabaseTokenStore(parts.database, box, 300)) as [
    DatabaseTokenStore,
    DatabaseTokenStore,
  ];
  const asked: string[] = [];
  const asking = one.exclusively('k', async () => {
    asked.push('one');
    await delay(1_500);
    asked.push('has it');
  });
  await expect.poll(() => asked).toEqual(['one']);
  const beside = other.exclusively('k', async () => asked.push('other'));
  await expect(beside).rejects.toMatchObject({ code: 'TOKEN_STORE_FAILED', details: { reason: 'in-use' } });
  await asking;
  await other.exclusively('k', async () => asked.push('other'));
  expect(asked).toEqual(['one', 'has it', 'other']);
});

it('a refresh token that is in use is kept', async () => {
  await using parts = await openOutbox();
  const { deliveries, database } = parts;
  const store = new DatabaseTokenStore(database, new SecretBox([generateSecretKey()]));
  for (const key of ['used', 'unused']) await store.set(key, { refreshToken: new SecretText('R') });
  const age = (days: number) =>
    database.query("update flowpost.tokens set updated_at = updated_at - $1 * interval '1 day'", [days]);
  await age(150);
  await store.get('used');
  await age(60);
  await deliveries.forget(30);
  expect([(await store.get('used'))?.refreshToken?.reveal(), await store.get('unused')]).toEqual([
    'R',
    undefined,
  ]);
});
