import { readFile, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { Workplace } from '../testing/flowpost.test-support.ts';
import { BatchJournal } from './journal.ts';

it('what a crash broke off is no part of what the next run writes', async () => {
  await using place = await Workplace.make();
  const path = place.path('results');
  await writeFile(`${path}.journal`, 'run 1 boot\n1 aaaaaaaa\n2 bbb');
  await writeFile(path, '{"row":1,"key":"aaaaaaaa","run":1,"state":"sent"}\n{"row":2,"ke');
  for (let run = 2; run < 4; run++) {
    await using journal = await BatchJournal.open(path, true);
    expect(journal.past(1, 'aaaaaaaa')).toBe('sent');
    journal.end(run, 'cccccccc', { state: 'sent' });
  }
  expect(await readFile(`${path}.journal`, 'utf8')).toMatch(
    /^run 1 boot\n1 aaaaaaaa\nrun 2 \S+\nrun 3 \S+\n$/,
  );
  expect(await readFile(path, 'utf8')).toMatch(/^(?:\{"row":\d,.*\}\n){3}$/);
});
