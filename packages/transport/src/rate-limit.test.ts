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

it('keeps to its limit whatever the clock is set to', async () => {
  let now = 10_000_000;
  let passed = 0;
  const slept: number[] = [];
  const clock = {
    now: () => now,
    monotonic: () => passed,
    async sleep(ms: number) {
      slept.push(ms);
      passed += ms;
    },
  };
  const limit = new RateLimit(3, 60_000, clock);
  for (let turn = 0; turn < 3; turn++) await limit.turn();
  now -= 3_600_000;
  await limit.turn();
  for (let turn = 0; turn < 2; turn++) await limit.turn();
  now += 7_200_000;
  await limit.turn();
  expect(slept).toEqual([60_000, 60_000]);
});

it('who was kept with his turn has another one, before all who wait', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(2, 60_000, clock);
  const kept = [await limit.turn(), await limit.turn()];
  clock.advance(300_000);
  const order: string[] = [];
  const later = [limit.turn(), limit.turn()].map((turn) => turn.then(() => order.push('later')));
  await Promise.all(later);
  // Of the next two turns the late ones have the first, although somebody has waited longer.
  const waiting = limit.turn().then(() => order.push('waiting'));
  const late = kept.map((at) => limit.late(at).then(() => order.push('late')));
  for (let minute = 0; minute < 2; minute++) {
    clock.advance(60_000);
    await new Promise(setImmediate);
  }
  await Promise.all([waiting, ...late]);
  expect(order).toEqual(['later', 'later', 'late', 'late', 'waiting']);
});

it('a turn that was not used gives way to the one that is', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(1, 60_000, clock);
  const at = await limit.turn();
  await limit.late(at);
  clock.advance(10_000);
  await limit.late(at);
  clock.advance(50_000);
  expect(limit.left).toBe(0);
  clock.advance(10_000);
  expect(limit.left).toBe(1);
});

it('sends away who waits', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(1, 60_000, clock);
  await limit.turn();
  const waiting = [1, 2].map((_) => limit.turn().catch(({ message }) => message));
  limit.refuseWaiting(() => new Error('refused'));
  expect(await Promise.all(waiting)).toEqual(['refused', 'refused']);
  const next = limit.turn();
  await new Promise(setImmediate);
  clock.advance(60_000);
  const at = await next;
  clock.advance(5_000);
  // Who has had a turn has a session, and is not sent away for others.
  await limit.late(at);
  const order: string[] = [];
  const late = [1, 2].map((one) => limit.late(at).then(() => order.push(`late ${one}`)));
  const refused = limit.turn().catch(({ message }) => order.push(message));
  limit.refuseWaiting(() => new Error('refused'));
  await refused;
  for (let minute = 0; minute < 3; minute++) {
    clock.advance(60_000);
    await new Promise(setImmediate);
  }
  await Promise.all(late);
  expect(order).toEqual(['refused', 'late 1', 'late 2']);
});

it.each(['gives up', 'is sent away'])('nothing is slept through when the last one %s', async (how) => {
  const clock = new ManualClock();
  const slept: (AbortSignal | undefined)[] = [];
  const limit = new RateLimit(1, 60_000, {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    sleep(ms: number, signal?: AbortSignal) {
      slept.push(signal);
      return clock.sleep(ms, signal);
    },
  });
  await limit.turn();
  const controller = new AbortController();
  const waiting = limit.turn(controller.signal);
  if (how === 'gives up') controller.abort(new Error('enough'));
  else limit.refuseWaiting(() => new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  expect(slept.map((signal) => signal?.aborted)).toEqual([true]);
});
