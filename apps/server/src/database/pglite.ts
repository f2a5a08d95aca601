import { AsyncLocalStorage } from 'node:async_hooks';
import { statfsSync } from 'node:fs';
import type { PGlite } from '@electric-sql/pglite';
import { type Database, type Queryable, storageError } from './database.ts';
import { openDurablePglite } from './durable-pglite.ts';
import { literal } from './literal.ts';
import { Statements } from './statements.ts';
import { startUpkeep } from './upkeep.ts';

type Runs = Pick<PGlite, 'query' | 'exec'>;

/** Reading and planning a statement takes this database longer than executing it, so it is prepared when it comes again. */
class Prepared {
  readonly #pglite: PGlite;
  readonly #statements = new Statements();
  readonly #begun = new Set<string>();
  readonly #ready = new Set<string>();

  constructor(pglite: PGlite) {
    this.#pglite = pglite;
  }

  /** @param runs the database, or a transaction in it. */
  async query<Row extends object>(runs: Runs, text: string, values: readonly unknown[]): Promise<Row[]> {
    const name = this.#statements.nameOf(text);
    if (name === undefined || !this.#ready.has(name)) {
      if (name !== undefined) this.#prepare(name, text);
      return (await runs.query<Row>(text, [...values])).rows;
    }
    const [result] = await runs.exec(`execute ${name}(${values.map(literal).join(', ')})`);
    return (result?.rows ?? []) as Row[];
  }

  /** In a turn of its own: within somebody's transaction its failure would be that transaction's. */
  #prepare(name: string, text: string): void {
    if (this.#begun.has(name)) return;
    this.#begun.add(name);
    this.#pglite.exec(`prepare ${name} as ${text}`).then(
      () => this.#ready.add(name),
      () => undefined,
    );
  }
}

function queryable(pglite: Runs, prepared: Prepared): Queryable {
  return {
    async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      try {
        if (values && values.length > 0) return await prepared.query<Row>(pglite, text, values);
        return (await pglite.exec(text)).flatMap(({ rows }) => rows) as Row[];
      } catch (error) {
        throw storageError(error);
      }
    },
  };
}

/** PostgreSQL within this process, its data in a folder that nobody else may use meanwhile. */
export async function openPglite(folder: string): Promise<Database> {
  const { pglite, survivesPowerLoss } = await openDurablePglite(folder);
  // Nobody gathers statistics here, and without them the planner reads whole tables to find a few rows by their key.
  await pglite.exec('set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off');
  const endUpkeep = startUpkeep(pglite);
  const prepared = new Prepared(pglite);
  const outside = queryable(pglite, prepared);
  // There is one connection. Whoever asks for something while his own transaction has it means within that transaction; to wait
  // for its end would be to wait for himself.
  const current = new AsyncLocalStorage<{ transaction: Queryable | undefined }>();
  return {
    kind: 'pglite',
    survivesPowerLoss,
    freeBytes() {
      const { bavail, bsize } = statfsSync(folder);
      return bavail * bsize;
    },
    async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      const inside = current.getStore()?.transaction;
      if (inside) return inside.query<Row>(text, values);
      try {
        return await outside.query<Row>(text, values);
      } catch (error) {
        // A failure within begin and commit must not stay for whoever comes next.
        if (/\bbegin\b/i.test(text)) await pglite.exec('rollback').catch(() => undefined);
        throw error;
      }
    },
    transaction: <Value>(work: (transaction: Queryable) => Promise<Value>): Promise<Value> =>
      pglite
        .transaction(async (opened) => {
          const held = { transaction: queryable(opened, prepared) as Queryable | undefined };
          try {
            return await current.run(held, () => work(queryable(opened, prepared)));
          } finally {
            held.transaction = undefined;
          }
        })
        .catch((error) => {
          throw storageError(error);
        }) as Promise<Value>,
    async [Symbol.asyncDispose]() {
      await endUpkeep();
      await pglite.close();
    },
  };
}
