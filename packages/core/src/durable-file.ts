import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Not every system can open a folder; there a file is as durable as it gets. */
const cannotOpen: readonly unknown[] = ['EISDIR', 'EPERM', 'EACCES', 'EINVAL'];

/**
 * Makes a folder, and those it is in, where they are missing. Node's own way tries for ever where a system says that a folder is missing in
 * one that is there, as Linux does in `/proc`.
 *
 * @param options.mode the permissions of each that is made. Default 0o777, less the umask.
 * @throws what the system says; `EEXIST` where something else is in its place.
 */
export async function makeFolder(
  path: string,
  { mode = 0o777 }: { readonly mode?: number } = {},
): Promise<void> {
  const make = (): Promise<void> => mkdir(path, { mode });
  try {
    await make().catch(async (error) => {
      if (error.code !== 'ENOENT' || dirname(path) === path) throw error;
      await makeFolder(dirname(path), { mode });
      await make();
    });
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
    if (!isThere || !(await stat(path)).isDirectory()) throw error;
  }
}

/**
 * Makes sure that a file that was made or renamed is there after a power failure, which its folder says.
 *
 * @throws what the system says.
 */
export async function syncFolderOf(path: string): Promise<void> {
  try {
    await using folder = await open(dirname(path), 'r');
    await folder.sync();
  } catch (error) {
    if (!cannotOpen.includes((error as NodeJS.ErrnoException).code)) throw error;
  }
}

/**
 * Puts a file in the place of another one, or of none. Whatever happens meanwhile, the old one is there or the new one, whole.
 *
 * @param options.mode its permissions, whatever the umask is.
 * @param options.owner whose it is. Default this process's.
 * @throws what the system says; then the old one is still there.
 */
export async function replaceFile(
  path: string,
  content: string | Uint8Array,
  {
    mode,
    owner,
  }: { readonly mode: number; readonly owner?: { readonly uid: number; readonly gid: number } | undefined },
): Promise<void> {
  const beside = `${path}.${randomUUID()}.tmp`;
  try {
    {
      await using file = await open(beside, 'wx', mode);
      const own = await file.stat();
      if (owner && (own.uid !== owner.uid || own.gid !== owner.gid)) await file.chown(owner.uid, owner.gid);
      await file.chmod(mode);
      await file.writeFile(content);
      await file.sync();
    }
    await rename(beside, path);
    await syncFolderOf(path);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw error;
  }
}
