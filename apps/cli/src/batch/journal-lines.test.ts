import { writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { Workplace } from '../testing/flowpost.test-support.ts';
import { readEarlier } from './journal-lines.ts';

/** What is known of rows after runs that wrote these lines. */
async function known(journal: readonly string[], results: readonly object[]) {
  await using place = await Workplace.make();
  const path = place.path('results');
  await writeFile(`${path}.journal`, journal.map((line) => `${line}\n`).join(''));
  await writeFile(path, results.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return (await readEarlier(path, `${path}.journal`)).memory;
}

it('what was put off in one run and was leaving in the next is in doubt', async () => {
  const putOff = { row: 1, key: 'aaaaaaaa', run: 1, state: 'deferred' };
  const memory = await known(['run 1 boot', '1 aaaaaaaa', 'run 2 boot', '1 aaaaaaaa'], [putOff]);
  expect(memory.state(1)).toBe('begun');
});

it('that the machine stopped says nothing of what a run before the last one settled', async () => {
  const journal = ['run 1 other', '+1 aaaaaaaa', '1 aaaaaaaa', 'run 2 other', '+2 bbbbbbbb'];
  const memory = await known(journal, [{ row: 1, key: 'aaaaaaaa', run: 1, state: 'sent' }]);
  expect([memory.state(1), memory.state(2)]).toEqual(['sent', 'begun']);
});
