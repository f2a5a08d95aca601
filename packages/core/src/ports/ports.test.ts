import { describe, expect, it } from 'vitest';
import { MailError } from '../errors/mail-error.ts';
import { noTimings, type SendReceipt } from '../receipt.ts';
import { SecretText } from '../secret.ts';
import { InProcessRunner } from './background-runner.ts';
import { ManualClock, systemClock } from './clock.ts';
import { MemoryDuplicateStore } from './duplicate-store.ts';
import { MemoryTokenStore } from './token-store.ts';

describe('clocks', () => {
  it('a manual clock wakes sleepers in time, and only those', async () => {
    const clock = new ManualClock(1_000);
    const woken: string[] = [];
    const early = clock.sleep(10).then(() => woken.push('early'));
    clock.sleep(1_000).then(() => woken.push('late'));
    clock.advance(10);
    await early;
    expect([clock.now(), woken]).toEqual([1_010, ['early']]);
  });

  it.each([
    ['system', systemClock],
    ['manual', new ManualClock()],
  ])('sleep on the %s clock ends with the signal', async (_, clock) => {
    const controller = new AbortController();
    const sleep = clock.sleep(60_000, controller.signal);
    controller.abort(new Error('enough'));
    await expect(sleep).rejects.toThrow('enough');
    await expect(clock.sleep(60_000, controller.signal)).rejects.toThrow('enough');
  });
});

it('MemoryTokenStore keeps, replaces and forgets', async () => {
  const store = new MemoryTokenStore();
  await store.set('k', { accessToken: new SecretText('t1') });
  await store.set('k', { accessToken: new SecretText('t2'), expiresAt: 5 });
  expect((await store.get('k'))?.accessToken?.reveal()).toBe('t2');
});

describe('MemoryDuplicateStore', () => {
  const receipt: SendReceipt = {
    ...{ status: 'sent', messageId: '<a@b>', accepted: ['b@x.org'], rejected: [], response: '250 ok' },
    ...{ attempts: 1, timings: noTimings, sizeBytes: 5 },
  };
  async function reserve(store: MemoryDuplicateStore): Promise<string> {
    const reservation = await store.reserve('k', 'h', 100);
    if (reservation.state !== 'reserved') throw new Error(reservation.state);
    return reservation.token;
  }

  it('reserves once, remembers, and forgets after the window', async () => {
    const clock = new ManualClock();
    const store = new MemoryDuplicateStore(clock);
    const token = await reserve(store);
    expect(await store.reserve('k', 'h', 100)).toEqual({ state: 'pending' });
    await store.remember('k', token, receipt);
    expect(await store.reserve('k', 'h', 100)).toEqual({ state: 'sent', receipt });
    expect(await store.reserve('k', 'other', 100)).toEqual({ state: 'conflict' });
    clock.advance(100);
    expect(await store.reserve('k', 'other', 100)).toMatchObject({ state: 'reserved' });
  });

  it('counts the window from when it was sent, or came to be in doubt, however long that took', async () => {
    const clock = new ManualClock();
    const store = new MemoryDuplicateStore(clock);
    const state = async () => (await store.reserve('k', 'h', 100)).state;
    const token = await reserve(store);
    clock.advance(1_000);
    expect(await state()).toBe('pending');
    await store.remember('k', token, receipt);
    clock.advance(99);
    expect(await state()).toBe('sent');
    clock.advance(1);
    const again = await reserve(store);
    clock.advance(1_000);
    await store.keepDoubt('k', again, new MailError('DELIVERY_IN_DOUBT', 'no answer').toJSON());
    clock.advance(99);
    expect(await state()).toBe('in-doubt');
    clock.advance(1);
    expect(await state()).toBe('reserved');
  });

  it('tells everybody the same, whatever becomes of what they were told', async () => {
    const store = new MemoryDuplicateStore(new ManualClock());
    const given = structuredClone(receipt);
    await store.remember('k', await reserve(store), given);
    for (let change = given; ; ) {
      (change.accepted as string[]).length = 0;
      const found = await store.reserve('k', 'h', 100);
      expect(found).toEqual({ state: 'sent', receipt });
      if (found.state !== 'sent' || change !== given) break;
      change = found.receipt;
    }
  });

  it('a released key can be reserved again', async () => {
    const store = new MemoryDuplicateStore(new ManualClock());
    await store.release('k', await reserve(store));
    await reserve(store);
  });

  it('who comes late changes nothing of what another has reserved', async () => {
    const store = new MemoryDuplicateStore(new ManualClock());
    const late = await reserve(store);
    await store.release('k', late);
    await reserve(store);
    await store.release('k', late);
    await store.remember('k', late, receipt);
    expect(await store.reserve('k', 'h', 100)).toEqual({ state: 'pending' });
  });
});

it('InProcessRunner begins later, and survives what fails', async () => {
  const runner = new InProcessRunner();
  const ended = Promise.withResolvers<string>();
  let hasBegun = false;
  runner.run(() => Promise.reject(new Error('its own problem')));
  runner.run(async () => {
    hasBegun = true;
    ended.resolve('second');
  });
  expect(hasBegun).toBe(false);
  expect(await ended.promise).toBe('second');
});
