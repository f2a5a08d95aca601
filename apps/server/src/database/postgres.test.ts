import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { v7 as timeOrderedId } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { NewDelivery } from '../outbox/delivery.ts';
import { DeliveryEvents } from '../outbox/delivery-events.ts';
import { rowOf } from '../outbox/delivery-row.ts';
import { DeliveryStore } from '../outbox/delivery-store.ts';
import { ended, inDoubt } from '../outbox/ended.ts';
import { startBoss } from '../outbox/outbox.ts';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import { PostgresServer } from '../testing/postgres.test-support.ts';
import { ServerProcess } from '../testing/server-process.test-support.ts';
import { mayHaveBeenDone, type Queryable } from './database.ts';
import { migrate } from './migrate.ts';
import { openPostgres } from './postgres.ts';

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await PostgresServer.start();
});
afterAll(() => postgres?.[Symbol.asyncDispose]());

const urlOf = (database: string, user = 'flowpost'): string =>
  postgres.url.replace(/\/flowpost$/, `/${database}`).replace('flowpost:flowpost@', `${user}:flowpost@`);

async function administer(database: string, ...statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: urlOf(database) });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

it('a database that cannot hold every message is refused, with what to do', async () => {
  await administer(
    'flowpost',
    "create database latin encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'",
  );
  await administer('flowpost', "create database bytes encoding 'SQL_ASCII' template template0");
  await using bytes = await openPostgres(urlOf('bytes'));
  expect(await bytes.query('select $1::jsonb as value', ['"Gr\u00fc\u00dfe \u{1f600}"'])).toEqual([
    { value: 'Gr\u00fc\u00dfe \u{1f600}' },
  ]);
  await expect(openPostgres(urlOf('latin'))).rejects.toMatchObject({
    code: 'CONNECTION_INVALID',
    message: expect.stringContaining('LATIN1'),
    hint: expect.stringContaining("encoding 'UTF8'"),
  });
});

it('whoever may use the schemas that are there need not be allowed to make any', async () => {
  await administer(
    'flowpost',
    "create role app login password 'flowpost'",
    'create database given',
    "alter database given set datestyle = 'German, DMY'",
  );
  await administer('given', 'create schema flowpost authorization app');
  await using database = await openPostgres(urlOf('given', 'app'));
  await migrate(database);
  await migrate(database);
  const [row] = await database.query<{ at: Date }>(
    'select at from flowpost.migrations where version = $1',
    [1],
  );
  expect(row?.at).toBeInstanceOf(Date);
});

it('a statement that was cancelled was undone, and of one that was cut off nobody knows', async () => {
  await using database = await openPostgres(postgres.url);
  const failed = (statement: string) =>
    database
      .transaction(async (transaction) => transaction.query(statement))
      .then(
        () => undefined,
        (error) => error,
      );
  const late = await failed('set local statement_timeout = 1; select pg_sleep(10)');
  expect([late?.details.reason, mayHaveBeenDone(late)]).toEqual(['57014', false]);
  const cut = await failed('select pg_terminate_backend(pg_backend_pid())');
  expect([cut?.details.reason, mayHaveBeenDone(cut)]).toEqual(['57P01', true]);
});

it('a server whose database may only be read is not ready, and says why it cannot start with one', async () => {
  await using folder = await temporaryFolder();
  await administer('flowpost', 'create database still');
  const environment = { DATABASE_URL: urlOf('still'), FLOWPOST_DATA: folder.path };
  const server = await ServerProcess.start(environment);
  const isReady = async () => {
    const answer = await fetch(`${server.url}/readyz`);
    return [answer.status, await answer.json()];
  };
  expect(await isReady()).toEqual([200, { status: 'ready' }]);
  await administer(
    'flowpost',
    'alter database still set default_transaction_read_only = on',
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'still'",
  );
  await expect.poll(isReady).toEqual([503, { status: 'the database is read-only' }]);
  await server.end('SIGTERM');
  await administer('flowpost', 'drop database still', 'create database still');
  await administer('flowpost', 'alter database still set default_transaction_read_only = on');
  await expect(ServerProcess.start(environment)).rejects.toThrow(/read-only transaction \(25006\)/);
});

it('what a database and a role have set otherwise changes nothing', async () => {
  await administer(
    'flowpost',
    "create role odd login password 'flowpost'",
    'create database odd owner odd',
    "alter database odd set default_transaction_isolation = 'serializable'",
    'alter role odd set standard_conforming_strings = off',
    "alter role odd set statement_timeout = '1s'",
  );
  await using database = await openPostgres(urlOf('odd', 'odd'));
  await Promise.all([migrate(database), migrate(database)]);
  const boss = await startBoss(database, () => undefined);
  await boss.stop({ graceful: false });
  expect(await database.query('show transaction_isolation')).toEqual([
    { transaction_isolation: 'read committed' },
  ]);
  // What brings a schema up to date takes as long as it takes.
  const slow = (options?: { readonly isLong: boolean }) =>
    database.transaction((transaction) => transaction.query('select pg_sleep(1.2)'), options);
  await expect(slow()).rejects.toMatchObject({ details: { reason: '57014' } });
  await slow({ isLong: true });
  await administer('flowpost', 'alter role odd reset all', "alter role odd set transaction_timeout = '1s'");
  await using limited = await openPostgres(urlOf('odd', 'odd'));
  const sleep = (transaction: Queryable) => transaction.query('select pg_sleep(1.2)');
  await expect(limited.transaction(sleep)).rejects.toMatchObject({ details: { reason: '25P04' } });
  await limited.transaction(sleep, { isLong: true });
});

it('the events of a delivery are told in the order of its changes, whoever waited for its row', async () => {
  await administer('flowpost', 'create database ordered');
  await using database = await openPostgres(urlOf('ordered'));
  await migrate(database);
  const boss = await startBoss(database, () => undefined);
  const store = new DeliveryStore(database, boss);
  const worker = randomUUID();
  const ids = [1, 2].map(() => timeOrderedId());
  for (const id of ids) {
    const delivery: NewDelivery = {
      mode: 'async',
      ...{ id, nodeType: 'send-email', nodeId: 'n', messageId: `<${id}@x.org>`, lane: 'a' },
      ...{ recipients: ['b@x.org'], subject: '', apiKey: 'k', sealed: 'x' },
      request: { message: { from: 'a@x.org' }, policy: {} as never, unshared: false },
    };
    await store.insert([rowOf(delivery, worker)]);
  }
  const claims = await store.claim(worker, 10);
  // In the order in which a statement over all of them comes to them.
  const [first, last] = await database.query<{ id: string }>('select id from flowpost.deliveries');
  const letGo = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const holding = database.transaction(async (transaction) => {
    await transaction.query('select 1 from flowpost.deliveries where id = $1 for update', [first?.id]);
    held.resolve();
    await letGo.promise;
  });
  await held.promise;
  // Takes its number, and waits for the first; meanwhile the last changes, in a transaction with a higher one.
  const recovering = store.recover([worker], ended.toJSON(), inDoubt.toJSON());
  const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'";
  await expect.poll(() => database.query(waiting)).toHaveLength(1);
  const claim = claims.find(({ id }) => id === last?.id);
  expect(await store.commit([{ id: last?.id ?? '', attempt: claim?.attempt ?? 0 }], worker)).toEqual([true]);
  letGo.resolve();
  await Promise.all([holding, recovering]);
  const events = await new DeliveryEvents(database).after('0.0');
  const told = events.filter(({ delivery }) => delivery === last?.id).map(({ state }) => state);
  expect(told).toEqual(['queued', 'sending', 'committing', 'in-doubt']);
  await boss.stop({ graceful: false });
});
