import { ManualClock } from '@flowpost/core';
import { expect, it } from 'vitest';
import { RateLimit } from './rate-limit.ts';

it('lets through no more than the limit in any period, in order', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(3, 60_000, clock);
  const done: [number, number][] = [];
  const turns = Array.from({ length: 8 }, (_, index) =>
    limit.turn().then(() => done.push([index, clock.now()])),
  );
  for (let second = 0; second < 130; second++) {
    await new Promise(setImmediate);
    clock.advance(1_000);
  }
  await Promise.all(turns);
  expect(done.map(([index]) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  const times = done.map(([, at]) => at);
  for (let index = 3; index < times.length; index++) {
    expect((times[index] ?? 0) - (times[index - 3] ?? 0)).toBeGreaterThanOrEqual(60_000);
  }
});

it('gives up when the caller does', async () => {
  const limit = new RateLimit(1, 60_000, new ManualClock());
  await limit.turn();
  const controller = new AbortController();
  const waiting = limit.turn(controller.signal);
  controller.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
});
