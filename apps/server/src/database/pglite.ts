import { AsyncLocalStorage } from 'node:async_hooks';
import { fsyncSync } from 'node:fs';
import { PGlite } from '@electric-sql/pglite';
import { type Database, type Queryable, storageError } from './database.ts';

interface FileStream {
  readonly nfd: number;
}
interface FileOperations {
  fsync?: (stream: FileStream) => number;
}
interface EmscriptenFs {
  lookupPath(path: string): {
    readonly node?: { readonly mount?: { readonly type?: { readonly stream_ops?: FileOperations } } };
  };
}

/**
 * PGlite starts PostgreSQL with fsync off, and its file system has no fsync: what is committed then survives the end of the
 * process, not that of the machine. Here PostgreSQL asks for it, and the file system does it.
 *
 * @returns whether it could be switched on.
 */
function enableFsync(pglite: PGlite): boolean {
  const { FS } = pglite.Module as unknown as { readonly FS: EmscriptenFs };
  const operations = FS.lookupPath('/pglite/data').node?.mount?.type?.stream_ops;
  if (!operations) return false;
  operations.fsync = ({ nfd }) => {
    fsyncSync(nfd);
    return 0;
  };
  return true;
}

const startParams = [
  ...(PGlite as unknown as { readonly defaultStartParams: readonly string[] }).defaultStartParams.filter(
    (parameter) => parameter !== '-F',
  ),
  // The other methods end nowhere in this build.
  ...['-c', 'wal_sync_method=fsync'],
];

type Runs = Pick<PGlite, 'query' | 'exec'>;

function queryable(pglite: Runs): Queryable {
  return {
    async query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> {
      try {
        if (values && values.length > 0) return (await pglite.query<Row>(text, [...values])).rows;
        return (await pglite.exec(text)).flatMap(({ rows }) => rows) as Row[];
      } catch (error) {
        throw storageError(error);
      }
    },
  };
}

/** PostgreSQL within this process, its data in a folder that nobody else may use meanwhile. */
export async function openPglite(folder: string): Promise<Database> {
  const pglite = new PGlite(folder, { startParams });
  await pglite.waitReady;
  // Nobody gathers statistics here, and without them the planner reads whole tables to find a few rows by their key.
  await pglite.exec('set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off');
  const survivesPowerLoss = enableFsync(pglite);
  const outside = queryable(pglite);
  // There is one connection. Whoever asks for something while his own transaction has it means within that transaction; to wait
  // for its end would be to wait for himself.
  const current = new AsyncLocalStorage<{ transaction: Queryable | undefined }>();
  return {
    kind: 'pglite',
    survivesPowerLoss,
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
          const held = { transaction: queryable(opened) as Queryable | undefined };
          try {
            return await current.run(held, () => work(queryable(opened)));
          } finally {
            held.transaction = undefined;
          }
        })
        .catch((error) => {
          throw storageError(error);
        }) as Promise<Value>,
    async [Symbol.asyncDispose]() {
      await pglite.close();
    },
  };
}
