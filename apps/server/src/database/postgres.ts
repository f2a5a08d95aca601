import pg from 'pg';
import { type Database, mayHaveBeenDone, type Queryable, storageError } from './database.ts';
import { Statements } from './statements.ts';

const connections = 10;
/** Longer than any statement takes, in milliseconds: whoever says nothing for so long is not there any more. */
const longestMs = 60_000;

const statements = new Statements();

function queryable(client: Pick<pg.Pool, 'query'> | pg.PoolClient): Queryable {
  return {
    async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      try {
        const name = values && values.length > 0 ? statements.nameOf(text) : undefined;
        const result = await client.query({
          text,
          ...(values && { values: [...values] }),
          ...(name && { name }),
        });
        // Several statements at once have several results.
        return [result].flat().flatMap((one) => one.rows) as Row[];
      } catch (error) {
        throw storageError(error);
      }
    },
  };
}

/** A PostgreSQL server. Lost connections are replaced; a statement that was under way fails. */
export async function openPostgres(url: string): Promise<Database> {
  const pool = new pg.Pool({
    connectionString: url,
    max: connections,
    connectionTimeoutMillis: 10_000,
    query_timeout: longestMs,
    keepAlive: true,
    // A statement planned while a table is empty reads all of it, and goes on so while it fills, until somebody gathers statistics.
    onConnect: async (client) => {
      await client.query('set enable_seqscan = off');
    },
  });
  // A connection lost while idle is no failure of anything.
  pool.on('error', () => undefined);
  // One lost in use makes its statement fail, which is told there.
  pool.on('connect', (client) => client.on('error', () => undefined));
  await pool.query('select 1');
  return {
    kind: 'postgres',
    survivesPowerLoss: true,
    // Its disk is its own affair, and it says so when it is full.
    freeBytes: () => Number.POSITIVE_INFINITY,
    ...queryable(pool),
    async transaction(work) {
      const client = await pool.connect().catch((error) => {
        throw storageError(error, { reached: false });
      });
      let broken: Error | undefined;
      try {
        await client.query('begin');
        const value = await work(queryable(client));
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
