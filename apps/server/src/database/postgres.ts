import { MailError } from '@flowpost/core';
import pg from 'pg';
import { type Database, mayHaveBeenDone, type Queryable, storageError } from './database.ts';
import { Statements } from './statements.ts';

const connections = 10;
/** Longer than any statement takes, in milliseconds: whoever says nothing for so long is not there any more. */
const longestMs = 60_000;

const statements = new Statements();

/** What brings a schema up to date may rewrite large tables, and whoever waits for that waits as long. */
const noLimitMs = 2_147_483_647;

/** @param limitMs for each statement, in milliseconds. Default the longest that one takes otherwise. */
function queryable(client: Pick<pg.Pool, 'query'> | pg.PoolClient, limitMs?: number): Queryable {
  return {
    async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      try {
        const name = values && values.length > 0 ? statements.nameOf(text) : undefined;
        const result = await client.query({
          text,
          ...(values && { values: [...values] }),
          ...(name && { name }),
          ...(limitMs && { query_timeout: limitMs }),
        });
        // Several statements at once have several results.
        return [result].flat().flatMap((one) => one.rows) as Row[];
      } catch (error) {
        throw storageError(error);
      }
    },
  };
}

const unusable = (message: string, hint: string): MailError =>
  new MailError('CONNECTION_INVALID', message, { hint });

/** @throws MailError `CONNECTION_INVALID` for a database that would take some messages and not others, or hand out connections. */
async function assertUsable(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ server_encoding: string }>('show server_encoding');
  const encoding = rows[0]?.server_encoding;
  // A database in SQL_ASCII takes every byte and gives it back.
  if (encoding !== 'UTF8' && encoding !== 'SQL_ASCII')
    throw unusable(
      `The database is in ${encoding}, which cannot hold every message.`,
      "Make one with: create database flowpost encoding 'UTF8' template template0",
    );
  const clients: pg.PoolClient[] = [];
  try {
    const processes = new Set<unknown>();
    for (let number = 0; number < 2; number++) {
      const client = await pool.connect();
      clients.push(client);
      processes.add((await client.query('select pg_backend_pid() as process')).rows[0].process);
    }
    if (processes.size < clients.length)
      throw unusable(
        'The database is behind a pooler that gives each transaction another connection.',
        'What is set up in a connection has to stay there: use session mode (in PgBouncer pool_mode = session).',
      );
  } finally {
    for (const client of clients) client.release();
  }
}

/**
 * A PostgreSQL server. Lost connections are replaced; a statement that was under way fails.
 *
 * @throws MailError `CONNECTION_INVALID` for one that is of no use; what the database says when it cannot be reached.
 */
export async function openPostgres(url: string): Promise<Database> {
  const pool = new pg.Pool({
    connectionString: url,
    max: connections,
    connectionTimeoutMillis: 10_000,
    query_timeout: longestMs,
    keepAlive: true,
    // A statement planned while a table is empty reads all of it, and goes on so while it fills, until somebody gathers statistics.
    onConnect: async (client) => {
      // What a database or role has set otherwise, our SQL and that of the queue would not survive.
      await client.query(
        `set enable_seqscan = off; set datestyle = iso; set default_transaction_isolation = 'read committed';
         set standard_conforming_strings = on`,
      );
    },
  });
  // A connection lost while idle is no failure of anything.
  pool.on('error', () => undefined);
  // One lost in use makes its statement fail, which is told there.
  pool.on('connect', (client) => client.on('error', () => undefined));
  try {
    await assertUsable(pool);
  } catch (error) {
    await pool.end();
    throw error;
  }
  return {
    kind: 'postgres',
    survivesPowerLoss: true,
    // Its disk is its own affair, and it says so when it is full.
    freeBytes: () => Number.POSITIVE_INFINITY,
    ...queryable(pool),
    async transaction(work, { isLong = false } = {}) {
      const client = await pool.connect().catch((error) => {
        throw storageError(error, { reached: false });
      });
      let broken: Error | undefined;
      try {
        await client.query('begin');
        if (isLong)
          await client.query(
            `set local statement_timeout = 0; set local lock_timeout = 0; set local idle_in_transaction_session_timeout = 0;
             select set_config(name, '0', true) from pg_settings where name = 'transaction_timeout' -- PostgreSQL 17 and later`,
          );
        const value = await work(queryable(client, isLong ? noLimitMs : undefined));
        // After a failure in a transaction its end is a rollback, whatever it was meant to be.
        const { command } = await client.query('commit');
        if (command !== 'COMMIT') throw new Error('the transaction was rolled back');
        return value;
      } catch (error) {
        // Whoever was not heard of will not hear of this either.
        if (mayHaveBeenDone(error)) broken = error as Error;
        else
          await client.query('rollback').catch((failure) => {
            broken = failure;
          });
        throw storageError(error);
      } finally {
        client.release(broken);
      }
    },
    async [Symbol.asyncDispose]() {
      await pool.end();
    },
  };
}
