import { mkdirSync, readFileSync, readlinkSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MailError } from '@flowpost/core';

/** How often the lock is touched, and after how long without that it is anybody's, in milliseconds. */
const touchMs = 2_000;
const staleMs = 10_000;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function read(path: string, readIt: (path: string) => string): string {
  try {
    return readIt(path);
  } catch {
    return '';
  }
}

/** Where process numbers mean the same: this boot of this machine, and this container in it. Linux only. */
function numberSpace(): string {
  const boot = read('/proc/sys/kernel/random/boot_id', (path) => readFileSync(path, 'utf8')).trim();
  return `${boot} ${read('/proc/self/ns/pid', readlinkSync)}`;
}

/** When a process began, so that a later one with the same number is not taken for it. */
function beginning(pid: number): string {
  const stat = read(`/proc/${pid}/stat`, (path) => readFileSync(path, 'utf8'));
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

interface Holder {
  readonly pid: number;
  readonly beginning: string;
  readonly numberSpace: string;
}

function isHeld(path: string): boolean {
  let holder: Holder;
  try {
    holder = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return false;
  }
  // In the same place a process number says it all; from elsewhere only whether the lock is still being touched.
  if (holder.numberSpace === numberSpace())
    return isRunning(holder.pid) && beginning(holder.pid) === holder.beginning;
  return Date.now() - statSync(path).mtimeMs < staleMs;
}

/**
 * Takes a folder for this process alone: two at once would destroy an embedded database, in two containers as well. A lock whose
 * process has ended is taken over.
 *
 * @returns how to let go of it.
 * @throws MailError `FOLDER_IN_USE`.
 */
export function lockFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'server.lock');
  const holder: Holder = { pid: process.pid, beginning: beginning(process.pid), numberSpace: numberSpace() };
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(path, JSON.stringify(holder), { flag: 'wx', mode: 0o600 });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt > 0) throw error;
    }
    if (isHeld(path)) {
      throw new MailError('FOLDER_IN_USE', `The folder ${folder} is in use by another process.`, {
        details: { folder },
      });
    }
    rmSync(path, { force: true });
  }
  const timer = setInterval(() => {
    const now = new Date();
    try {
      utimesSync(path, now, now);
    } catch {
      // Somebody took the file away; it is still our folder.
    }
  }, touchMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    rmSync(path, { force: true });
  };
}
