import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MailError } from '@flowpost/core';

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When a process began, so that a later one with the same number is not taken for it. Linux only; elsewhere the number. */
function identity(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return `${pid} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    return `${pid}`;
  }
}

/**
 * Takes a folder for this process alone: two at once would destroy an embedded database. A lock whose process has ended is
 * taken over.
 *
 * @returns how to let go of it.
 * @throws MailError `FOLDER_IN_USE`.
 */
export function lockFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'server.lock');
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(path, identity(process.pid), { flag: 'wx', mode: 0o600 });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt > 0) throw error;
    }
    const held = readFileSync(path, 'utf8');
    const pid = Number(held.split(' ')[0]);
    if (pid > 0 && isRunning(pid) && identity(pid) === held) {
      throw new MailError('FOLDER_IN_USE', `The folder ${folder} is in use by process ${pid}.`, {
        details: { folder, pid },
      });
    }
    rmSync(path, { force: true });
  }
}
