import { afterAll, beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import { putDatabase } from '../testing/made-database.test-support.ts';
import type { Database } from './database.ts';
import { openPglite } from './pglite.ts';

let database: Database;
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  database = await openPglite(`${folder.path}/db`);
});
afterAll(async () => {
  await database[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

const awkward = [
  '',
  "'",
  "''",
  '\\',
  "\\'",
  '"',
  '{}',
  '{"a",NULL}',
  'null',
  "'); drop table x; --",
  '$1',
  'é\u2028😀',
  ' a\n\t',
];

/** At first a statement is run as it is; when it comes again it is prepared. */
async function eachWay(check: () => Promise<void>): Promise<void> {
  for (let time = 0; time < 3; time++) await check();
}

it.each(awkward)('text stays what it is: %j', (text) =>
  eachWay(async () => {
    const both = 'select $1::text as one, $2::text[] as many';
    const [row] = await database.query(both, [text, [text, 'x', null, text]]);
    expect(row).toEqual({ one: text, many: [text, 'x', null, text] });
  }),
);

it.each([[{ a: awkward, n: null, 1: { b: [1.5, true] } }], [awkward]])('JSON stays what it is: %#', (value) =>
  eachWay(async () => {
    const [row] = await database.query('select $1::jsonb as one', [JSON.stringify(value)]);
    expect(row).toEqual({ one: value });
  }),
);

it.each([
  ['int', 42],
  ['float8', -1.5e-7],
  ['boolean', false],
  ['timestamptz', new Date('2026-11-25T12:00:00.123Z')],
  ['bytea', new Uint8Array([0, 39, 92, 255])],
  ['uuid[]', ['0b8f3bb2-3c2a-4f2b-8c8a-0d4f6a0e1d11']],
  ['text', null],
  ['text', undefined],
])('a value of type %s stays what it is: %j', (type, value) =>
  eachWay(async () => {
    const [row] = await database.query(`select $1::${type} as one`, [value]);
    expect(row).toEqual({ one: value ?? null });
  }),
);

it('a statement that fails leaves nothing behind, and the next one works', async () => {
  const bad = 'select $1::int as one from nowhere';
  for (let time = 0; time < 2; time++)
    await expect(database.query(bad, [1])).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  const fine = 'select $1::int as one';
  await expect(database.query(fine, ['x'])).rejects.toMatchObject({ details: { reason: '22P02' } });
  expect(await database.query(fine, [1])).toEqual([{ one: 1 }]);
});

it('many at once, in transactions and out of them, get what they asked for', async () => {
  const text = 'select $1::int + 1 as one';
  const outside = Array.from({ length: 20 }, (_, number) => database.query(text, [number]));
  const inside = Array.from({ length: 20 }, (_, number) =>
    database.transaction((transaction) => transaction.query(text, [number])),
  );
  const expected = Array.from({ length: 20 }, (_, number) => [{ one: number + 1 }]);
  expect(await Promise.all(outside)).toEqual(expected);
  expect(await Promise.all(inside)).toEqual(expected);
});
