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

it('says how many turns are left', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(3, 60_000, clock);
  const left: number[] = [];
  for (let turn = 0; turn < 3; turn++) {
    left.push(limit.left);
    await limit.turn();
    clock.advance(10_000);
  }
  const waiting = limit.turn();
  left.push(limit.left);
  clock.advance(30_000);
  await waiting;
  clock.advance(15_000);
  left.push(limit.left);
  expect(left).toEqual([3, 2, 1, 0, 1]);
});

it('gives up when the caller does', async () => {
  const limit = new RateLimit(1, 60_000, new ManualClock());
  await limit.turn();
  const controller = new AbortController();
  const waiting = limit.turn(controller.signal);
  controller.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
});

it('whoever gave up has used no turn, and nothing is waited for without need', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(2, 60_000, clock);
  for (let turn = 0; turn < 2; turn++) await limit.turn();
  const controller = new AbortController();
  const givenUp = Array.from({ length: 300 }, () => limit.turn(controller.signal).catch(() => 'gave up'));
  const patient = limit.turn();
  controller.abort(new Error('enough'));
  expect(new Set(await Promise.all(givenUp))).toEqual(new Set(['gave up']));
  clock.advance(60_000);
  await patient;
  await limit.turn();
  const later = new AbortController();
  const last = limit.turn(later.signal);
  later.abort(new Error('enough'));
  await expect(last).rejects.toThrow('enough');
  // Nobody waits, so there is nothing left that would wake anybody; who comes next waits for himself.
  const next = limit.turn();
  clock.advance(60_000);
  await next;
});

it('a clock that is set back makes nobody wait longer than a period', async () => {
  let now = 10_000_000;
  const slept: number[] = [];
  const clock = {
    now: () => now,
    async sleep(ms: number) {
      slept.push(ms);
      now += ms;
    },
  };
  const limit = new RateLimit(3, 60_000, clock);
  for (let turn = 0; turn < 3; turn++) await limit.turn();
  now -= 3_600_000;
  await limit.turn();
  expect(slept).toEqual([60_000]);
});
