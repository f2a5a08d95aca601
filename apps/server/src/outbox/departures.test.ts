import { setImmediate as turn } from 'node:timers/promises';
import { ManualClock } from '@flowpost/core';
import { expect, it } from 'vitest';
import { Departures } from './departures.ts';

/** Departures whose database answers when it is told to, with everybody who is not in `lost`. */
function open({ writesAhead = true } = {}) {
  const clock = new ManualClock(1_000);
  const writes: string[][] = [];
  const lost = new Set<string>();
  let answers: (() => void)[] = [];
  const departures = new Departures<{ id: string; lane: string }>(
    async (claims) => {
      const ids = claims.map(({ id }) => id);
      writes.push(ids);
      await new Promise<void>((resolve) => answers.push(resolve));
      return ids.map((id) => !lost.has(id));
    },
    { clock, writesAhead },
  );
  const claims = Array.from({ length: 20 }, (_, index) => ({ id: `m${index}`, lane: 'a' }));
  for (const claim of claims) departures.enter(claim);
  const answer = async (): Promise<void> => {
    for (let rounds = 0; answers.length === 0 && rounds < 100; rounds++) await turn();
    for (const resolve of answers) resolve();
    answers = [];
    await turn();
  };
  const at = (index: number) => claims[index] as { id: string; lane: string };
  /** Sends the first one, which takes so long. */
  const first = async (tookMs: number): Promise<void> => {
    const begun = departures.begin(at(0));
    await answer();
    expect(await begun).toBe(true);
    clock.advance(tookMs);
    departures.end(at(0));
  };
  return { departures, clock, writes, lost, answer, at, first };
}

it('writes those down together whose turn comes together', async () => {
  const { departures, writes, answer, at } = open();
  const begun = [departures.begin(at(0)), departures.begin(at(1))];
  await answer();
  expect(await Promise.all(begun)).toEqual([true, true]);
  expect(writes).toEqual([['m0', 'm1']]);
});

it('writes as many down ahead as leave, and no more, where messages leave fast', async () => {
  const { departures, writes, answer, at, first } = open();
  await first(1);
  const begun = [departures.begin(at(1)), departures.begin(at(2))];
  await answer();
  expect(await Promise.all(begun)).toEqual([true, true]);
  expect(writes.at(-1)?.toSorted()).toEqual(['m1', 'm2', 'm3', 'm4']);
  departures.end(at(1));
  // Without asking the database.
  expect(await departures.begin(at(3))).toBe(true);
  await answer();
  expect(writes.slice(2)).toEqual([['m5']]);
});

it.each([
  ['messages take their time', true, 20],
  ['the database does one thing at a time', false, 1],
])('writes nothing down ahead where %s', async (_, writesAhead, tookMs) => {
  const { departures, writes, answer, at, first } = open({ writesAhead });
  await first(tookMs);
  const begun = departures.begin(at(1));
  await answer();
  expect(await begun).toBe(true);
  expect(writes).toEqual([['m0'], ['m1']]);
});

it('one that ended while it was written down leaves nothing behind', async () => {
  const { departures, writes, answer, at, first } = open();
  await first(1);
  const begun = [1, 2, 3].map((index) => departures.begin(at(index)));
  for (const index of [1, 2, 3]) departures.end(at(index));
  await answer();
  await Promise.all(begun);
  for (let index = 4; index < 12; index++) departures.end(at(index));
  const next = departures.begin(at(12));
  await answer();
  expect(await next).toBe(true);
  expect(writes.at(-1)).toEqual(['m12', 'm13']);
});

it('asks again when what was written ahead has waited for long: somebody else may have it by now', async () => {
  const { departures, clock, writes, lost, answer, at, first } = open();
  await first(1);
  const begun = departures.begin(at(1));
  await answer();
  expect(await begun).toBe(true);
  expect(writes.at(-1)).toEqual(['m1', 'm2']);
  clock.advance(1_500);
  lost.add('m2');
  const late = departures.begin(at(2));
  await answer();
  expect(await late).toBe(false);
  expect(writes.at(-1)).toContain('m2');
});

it('one that was lost before its turn must not leave, and one that left early makes room', async () => {
  const { departures, lost, answer, at, first, writes } = open();
  await first(1);
  lost.add('m2');
  const begun = departures.begin(at(1));
  await answer();
  expect([await begun, await departures.begin(at(2))]).toEqual([true, false]);
  // It was refused before its turn came.
  departures.end(at(3));
  await answer();
  departures.end(at(2));
  const next = departures.begin(at(4));
  await answer();
  expect(await next).toBe(true);
  expect(writes.flat()).not.toContain('m19');
});
