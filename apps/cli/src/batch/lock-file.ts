import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { MailError } from '@flowpost/core';

function lives(pid: number): boolean {
  if (!(pid > 0) || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // There is one, of somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Sees to it that one process at a time is at something.
 *
 * @returns gives it back.
 * @throws MailError `FOLDER_IN_USE`.
 */
export async function lockFile(path: string): Promise<() => Promise<void>> {
  for (;;) {
    try {
      await writeFile(path, `${process.pid}\n`, { flag: 'wx' });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = await holderOf(path);
    if (lives(holder)) throw inUse(holder, path);
    await removeLeft(path);
  }
}

const holderOf = async (path: string): Promise<number> =>
  Number(await readFile(path, 'utf8').catch(() => ''));

const inUse = (pid: number, path: string): MailError =>
  new MailError('FOLDER_IN_USE', `Process ${pid} is at this batch.`, {
    hint: `Wait for it, or stop it. If it has nothing to do with this, remove ${path}.`,
    details: { pid, path },
  });

/** Removes what one that was killed left, and not what somebody else put there in the meantime. */
async function removeLeft(path: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const holder = await holderOf(aside);
  if (lives(holder)) await link(aside, path);
  await rm(aside, { force: true });
  if (lives(holder)) throw inUse(holder, path);
}
