import { afterAll, beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import type { Database } from './database.ts';
import { openPglite } from './pglite.ts';

let database: Database;
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder();
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

it.each(awkward)('text stays what it is: %j', async (text) => {
  const [row] = await database.query('select $1::text as one, $2::text[] as many', [
    text,
    [text, 'x', null, text],
  ]);
  expect(row).toEqual({ one: text, many: [text, 'x', null, text] });
});

it.each([[{ a: awkward, n: null, 1: { b: [1.5, true] } }], [awkward]])(
  'JSON stays what it is: %#',
  async (value) => {
    const [row] = await database.query('select $1::jsonb as one', [JSON.stringify(value)]);
    expect(row).toEqual({ one: value });
  },
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
])('a value of type %s stays what it is: %j', async (type, value) => {
  for (let time = 0; time < 2; time++) {
    const [row] = await database.query(`select $1::${type} as one`, [value]);
    expect(row).toEqual({ one: value ?? null });
  }
});

it('a statement that fails leaves nothing behind, and the next one works', async () => {
  const bad = 'select $1::int as one from nowhere';
  for (let time = 0; time < 2; time++)
    await expect(database.query(bad, [1])).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  const fine = 'select $1::int as one';
  await expect(database.query(fine, ['x'])).rejects.toMatchObject({ details: { reason: '22P02' } });
  expect(await database.query(fine, [1])).toEqual([{ one: 1 }]);
});

it('what is prepared in a transaction that fails is prepared all the same', async () => {
  const text = 'select $1::int + 1 as one';
  const failing = database.transaction(async (transaction) => {
    await transaction.query(text, [1]);
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow();
  expect(await database.query(text, [1])).toEqual([{ one: 2 }]);
});
