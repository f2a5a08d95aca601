import { readFile, rm, writeFile } from 'node:fs/promises';
import { MailError } from '@flowpost/core';

function lives(pid: number): boolean {
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
    const holder = Number(await readFile(path, 'utf8').catch(() => ''));
    if (holder > 0 && holder !== process.pid && lives(holder)) {
      throw new MailError('FOLDER_IN_USE', `Process ${holder} is at this batch.`, {
        hint: `Wait for it, or stop it. If it has nothing to do with this, remove ${path}.`,
        details: { pid: holder, path },
      });
    }
    // Left by one that was killed.
    await rm(path, { force: true });
  }
}
