import { expect, it } from 'vitest';
import { openOutbox as open } from '../testing/outbox-parts.test-support.ts';

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
