import { fsyncSync } from 'node:fs';
import { PGlite } from '@electric-sql/pglite';

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
  // The least there may be: what is written ahead is kept no longer than needed.
  ...['-c', 'min_wal_size=32MB'],
];

/**
 * PGlite whose commits are on the disk when they are answered.
 *
 * @param folder where its files are, for this process alone.
 */
export async function openDurablePglite(
  folder: string,
): Promise<{ readonly pglite: PGlite; readonly survivesPowerLoss: boolean }> {
  const pglite = new PGlite(folder, { startParams });
  await pglite.waitReady;
  return { pglite, survivesPowerLoss: enableFsync(pglite) };
}
