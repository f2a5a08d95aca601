import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import { putDatabase } from '../testing/made-database.test-support.ts';
import type { Queryable } from './database.ts';
import { openPglite } from './pglite.ts';

it('a transaction is all or nothing, and nobody else gets in between', async () => {
  await using folder = await temporaryFolder();
  await using database = await openPglite(join(folder.path, 'db'));
  await database.query('create table kept (n int primary key)');
  const failing = database.transaction(async (transaction) => {
    await transaction.query('insert into kept values ($1)', [1]);
    // Within his own transaction, whoever asks the database means that one.
    expect(await database.query('select n from kept')).toEqual([{ n: 1 }]);
    await transaction.query('insert into kept values ($1)', [1]);
  });
  const beside = database.query('insert into kept values ($1)', [2]);
  await expect(failing).rejects.toMatchObject({ details: { reason: '23505' } });
  await beside;
  await expect(
    database.query('begin; insert into kept values (3); select nonsense; commit'),
  ).rejects.toThrow();
  await database.query('insert into kept values ($1)', [4]);
  expect(await database.query('select n from kept order by n')).toEqual([{ n: 2 }, { n: 4 }]);
});

it('a transaction that has ended takes no more statements', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(join(folder.path, 'db'));
  await using database = await openPglite(join(folder.path, 'db'));
  const left = await database.transaction(async (transaction) => ({ transaction }));
  await expect(left.transaction.query('select 1')).rejects.toThrow('the transaction has ended');
});

it('a database that computes without end is started again, with what was committed', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(join(folder.path, 'db'));
  await using database = await openPglite(join(folder.path, 'db'), 4_000);
  await database.query('create table kept (n int primary key)');
  await database.query('insert into kept values ($1)', [1]);
  const endless = database.transaction(async (transaction) => {
    await transaction.query('insert into kept values ($1)', [2]);
    await transaction.query('select count(*) from generate_series(1, 100000000000) a');
  });
  const behind = database.query('select n from kept');
  await expect(endless).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE', retryable: true });
  await behind.catch(() => undefined);
  expect(await database.query('select n from kept')).toEqual([{ n: 1 }]);
}, 120_000);

it('what brings a schema up to date may take longer than other statements', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(join(folder.path, 'db'));
  await using database = await openPglite(join(folder.path, 'db'), 1_000);
  const long = (transaction: Queryable) =>
    transaction.query('select count(*) from generate_series(1, 10000000) a, pg_sleep(2) as slept');
  await database.transaction(long, { isLong: true });
  await expect(database.transaction(long)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
}, 60_000);

it('a failure within a transaction undoes it, whatever is made of the error', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(join(folder.path, 'db'));
  await using database = await openPglite(join(folder.path, 'db'));
  await database.query('create table kept (n int)');
  const swallowing = database.transaction(async (transaction) => {
    await transaction.query('insert into kept values ($1)', [1]);
    await transaction.query('select nonsense').catch(() => undefined);
  });
  await expect(swallowing).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
  expect(await database.query('select n from kept')).toEqual([]);
  const nested = database.transaction(() => database.transaction(async () => undefined));
  await expect(nested).rejects.toThrow();
});

it('a database that has ended within a statement is started again, and says nothing it does not know', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(join(folder.path, 'db'));
  await using database = await openPglite(join(folder.path, 'db'));
  await database.query('create table kept (n int, value jsonb)');
  await database.query('insert into kept values ($1)', [1]);
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  await expect(database.query('insert into kept values ($1, $2::jsonb)', [2, deep])).rejects.toMatchObject({
    code: 'STORAGE_UNAVAILABLE',
  });
  await expect.poll(() => database.query('select n from kept').catch(() => undefined)).toEqual([{ n: 1 }]);
});

it('a database that was closed stays closed', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(join(folder.path, 'db'));
  const database = await openPglite(join(folder.path, 'db'));
  const last = database.query('select 1 as one').catch(() => undefined);
  await database[Symbol.asyncDispose]();
  await last;
  await expect(database.query('select 1')).rejects.toMatchObject({ details: { reached: false } });
});
