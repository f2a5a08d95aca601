import { AsyncLocalStorage } from 'node:async_hooks';
import { statfsSync } from 'node:fs';
import { type Database, type Queryable, storageError } from './database.ts';
import type { PgliteClient } from './pglite-client.ts';
import { RestartingClient } from './restarting-client.ts';
import { startUpkeep } from './upkeep.ts';

const queryable = (client: PgliteClient): Queryable => ({
  async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
    try {
      return (await client.run(text, values)) as Row[];
    } catch (error) {
      throw storageError(error);
    }
  },
});

/**
 * PostgreSQL in a thread of this process, its data in a folder that nobody else may use meanwhile.
 *
 * @param longestMs how long a statement may take before the thread is taken for lost and started again, in milliseconds.
 */
export async function openPglite(folder: string, longestMs?: number): Promise<Database> {
  const client = new RestartingClient(folder, longestMs);
  const survivesPowerLoss = await client.start();
  // There is one connection. Whoever asks for something while his own transaction has it means within that transaction; to wait
  // for its end would be to wait for himself.
  const current = new AsyncLocalStorage<{ transaction: Queryable | undefined }>();
  /** Statements are executed in the order they are handed over, so nobody has to wait for the answer of whoever came before. */
  let free = Promise.resolve();
  const turn = async (): Promise<() => void> => {
    const mine = Promise.withResolvers<void>();
    const before = free;
    free = mine.promise;
    await before;
    return mine.resolve;
  };
  const database: Database = {
    kind: 'pglite',
    survivesPowerLoss,
    freeBytes() {
      const { bavail, bsize } = statfsSync(folder);
      return bavail * bsize;
    },
    async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      const inside = current.getStore()?.transaction;
      if (inside) return inside.query<Row>(text, values);
      const release = await turn();
      try {
        const connection = queryable(await client.ready());
        const answer = connection.query<Row>(text, values);
        release();
        return await answer;
      } finally {
        release();
      }
    },
    async transaction<Value>(
      work: (transaction: Queryable) => Promise<Value>,
      { isLong = false }: { readonly isLong?: boolean } = {},
    ): Promise<Value> {
      // It would wait for itself.
      if (current.getStore()?.transaction) throw new Error('a transaction has no transactions within it');
      const release = await turn();
      const held: { transaction: Queryable | undefined } = { transaction: undefined };
      let endPatience: (() => void) | undefined;
      try {
        const thread = await client.ready();
        if (isLong) endPatience = thread.bePatient();
        const connection = queryable(thread);
        const begun = connection.query('begin');
        const inside: Queryable = {
          query: (text, values) =>
            held.transaction
              ? connection.query(text, values)
              : Promise.reject(new Error('the transaction has ended')),
        };
        held.transaction = inside;
        try {
          const [value] = await Promise.all([current.run(held, () => work(inside)), begun]);
          held.transaction = undefined;
          const committed = connection.query('commit');
          release();
          await committed;
          return value;
        } catch (error) {
          // After a commit that failed there is none, and this says so and does nothing.
          if (held.transaction) connection.query('rollback').catch(() => undefined);
          held.transaction = undefined;
          throw storageError(error);
        }
      } finally {
        held.transaction = undefined;
        endPatience?.();
        release();
      }
    },
    async [Symbol.asyncDispose]() {
      client.endTaking();
      await endUpkeep();
      // Those who had their turn before this still get what they asked for.
      await free;
      await client.close();
    },
  };
  const endUpkeep = startUpkeep(database);
  return database;
}
