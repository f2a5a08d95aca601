import { closeSync, fsyncSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { NodeFS } from '@electric-sql/pglite/nodefs';

interface FileStream {
  readonly nfd: number;
}
interface EmscriptenModule {
  readonly NODEFS?: { readonly stream_ops?: { fsync?: (stream: FileStream) => number } };
}
type Options = Parameters<NodeFS['init']>[1];
type PreRun = NonNullable<Options['preRun']>[number];

/**
 * PGlite starts PostgreSQL with fsync off, and its file system has no fsync: what is committed then survives the end of the
 * process, not that of the machine. Here PostgreSQL asks for it, and the file system does it, from the first byte on: what it
 * recovers at its start it writes as well.
 */
class DurableNodeFs extends NodeFS {
  /** Whether it could be switched on. */
  hasFsync = false;
  readonly #onFailure: (error: unknown) => void;

  constructor(folder: string, onFailure: (error: unknown) => void) {
    super(folder);
    this.#onFailure = onFailure;
  }

  override async init(pglite: PGlite, options: Options): ReturnType<NodeFS['init']> {
    const { emscriptenOpts } = await super.init(pglite, options);
    const switchOn: PreRun = (module) => {
      const { NODEFS } = module as unknown as EmscriptenModule;
      if (!NODEFS?.stream_ops) return;
      NODEFS.stream_ops.fsync = ({ nfd }) => {
        try {
          fsyncSync(nfd);
          return 0;
        } catch (error) {
          this.#onFailure(error);
          return -1;
        }
      };
      this.hasFsync = true;
    };
    return { emscriptenOpts: { ...emscriptenOpts, preRun: [switchOn, ...(emscriptenOpts.preRun ?? [])] } };
  }
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

/** The files of a new database are made by another program, which does not ask for it. A thousand of them, some 50 ms. */
function fsyncAll(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) fsyncAll(path);
    else if (entry.isFile()) fsyncPath(path);
  }
  fsyncPath(folder);
}

function fsyncPath(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * PGlite whose commits are on the disk when they are answered.
 *
 * @param folder where its files are, for this process alone.
 * @param onFsyncFailed told when the disk does not take what was written. Nothing that comes after it may be answered: what is in
 * memory and what is on the disk are no longer the same, and only a start from the disk makes them so.
 */
export async function openDurablePglite(
  folder: string,
  onFsyncFailed: (error: unknown) => void,
): Promise<{ readonly pglite: PGlite; readonly survivesPowerLoss: boolean }> {
  const fs = new DurableNodeFs(folder, onFsyncFailed);
  const pglite = new PGlite({ fs, startParams });
  await pglite.waitReady;
  if (fs.hasFsync) fsyncAll(folder);
  return { pglite, survivesPowerLoss: fs.hasFsync };
}
