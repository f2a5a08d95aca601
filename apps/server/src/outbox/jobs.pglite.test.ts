import { randomUUID } from 'node:crypto';
import { v7 as timeOrderedId } from 'uuid';
import { expect, it } from 'vitest';
import { migrate } from '../database/migrate.ts';
import { openPglite } from '../database/pglite.ts';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import { putDatabase } from '../testing/made-database.test-support.ts';
import { rowOf } from './delivery-row.ts';
import { DeliveryStore } from './delivery-store.ts';
import { startBoss } from './outbox.ts';

async function open() {
  const folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  const database = await openPglite(`${folder.path}/db`);
  await migrate(database);
  const boss = await startBoss(database, () => undefined);
  const deliveries = new DeliveryStore(database, boss);
  const worker = randomUUID();
  return {
    ...{ database, deliveries, worker },
    put: (lane: string, count: number) => {
      const ids = Array.from({ length: count }, () => timeOrderedId());
      const rows = ids.map((id) =>
        rowOf(
          {
            ...{ id, mode: 'async', nodeType: 'send-email', nodeId: 'n', messageId: `<${id}@x.org>`, lane },
            ...{ recipients: ['b@x.org'], subject: 'Hi', apiKey: 'k', sealed: 'x' },
            request: { message: { from: 'a@x.org', to: 'b@x.org' }, policy: {} as never, unshared: false },
          },
          worker,
        ),
      );
      return deliveries.insert(rows).then(() => ids);
    },
    jobs: () =>
      database.query<{ lane: string; count: number }>(
        `select group_id as lane, jsonb_array_length(data -> 'deliveries') as count from pgboss.job
         where name = 'deliveries' and state < 'completed' order by 1, 2 desc`,
      ),
    async [Symbol.asyncDispose]() {
      await boss.stop({ graceful: false });
      await database[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

it('a job comes for many deliveries, of one lane', async () => {
  await using parts = await open();
  await parts.put('a', 70);
  await parts.put('b', 1);
  expect(await parts.jobs()).toEqual([
    { lane: 'a', count: 32 },
    { lane: 'a', count: 32 },
    { lane: 'a', count: 6 },
    { lane: 'b', count: 1 },
  ]);
});

it('no more are taken than asked for, the oldest first, and each of them once', async () => {
  await using parts = await open();
  const ids = await parts.put('a', 40);
  const taken: string[] = [];
  for (let left = 40; left > 0; ) {
    const claims = await parts.deliveries.claim(parts.worker, 7);
    expect(claims.length).toBeGreaterThan(0);
    expect(claims.length).toBeLessThanOrEqual(7);
    left -= claims.length;
    taken.push(...claims.map(({ id }) => id).toSorted());
  }
  expect(taken.slice(0, 7)).toEqual(ids.slice(0, 7));
  expect(taken.toSorted()).toEqual(ids);
  expect(await parts.jobs()).toEqual([]);
});

it('those that wait for other times have other jobs, and a lane that is left out keeps its own', async () => {
  await using parts = await open();
  await parts.put('a', 3);
  await parts.put('b', 2);
  expect(await parts.deliveries.claim(parts.worker, 10, { except: ['a'] })).toHaveLength(2);
  const claims = await parts.deliveries.claim(parts.worker, 10);
  const soon = Date.now() + 100_000;
  await parts.deliveries.settle(
    claims.map(({ id, attempt }, index) => ({
      ...{ id, attempt, state: 'queued' as const },
      nextAt: index === 0 ? soon + 1 : soon,
    })),
    parts.worker,
  );
  expect(await parts.jobs()).toEqual([
    { lane: 'a', count: 2 },
    { lane: 'a', count: 1 },
  ]);
});

it('deliveries whose job is gone, or of a form that nobody knows, are found and get another', async () => {
  await using parts = await open();
  const ids = await parts.put('a', 3);
  await parts.database.query(`update pgboss.job set data = '{"id": "x"}' where name = 'deliveries'`);
  expect(await parts.deliveries.claim(parts.worker, 10)).toEqual([]);
  expect(await parts.deliveries.requeueForgotten()).toBe(0);
  await parts.database.query("update flowpost.deliveries set updated_at = now() - interval '2 minutes'");
  expect(await parts.deliveries.requeueForgotten()).toBe(3);
  expect(await parts.deliveries.requeueForgotten()).toBe(0);
  const claims = await parts.deliveries.claim(parts.worker, 10);
  expect(claims.map(({ id }) => id).toSorted()).toEqual(ids);
});
