import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { recently } from './recently.ts';

it('asks once for all who ask meanwhile and shortly after, and again for those after a failure', async () => {
  let asked = 0;
  let fails = false;
  const ask = recently(async () => {
    const mine = ++asked;
    await delay(20);
    if (fails) throw new Error('away');
    return mine;
  }, 100);
  expect(await Promise.all([ask(), ask(), ask()])).toEqual([1, 1, 1]);
  expect(await ask()).toBe(1);
  await delay(150);
  fails = true;
  expect(await Promise.allSettled([ask(), ask()])).toMatchObject([
    { status: 'rejected' },
    { status: 'rejected' },
  ]);
  expect(asked).toBe(2);
  fails = false;
  expect(await ask()).toBe(3);
});
