import { randomUUID } from 'node:crypto';
import {
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MailError } from '@flowpost/core';

/** How often a lock is touched, and after how long without that it is anybody's where nothing else can be known, in milliseconds. */
const touchMs = 2_000;
const staleMs = 10_000;
/** How often those who came at the same moment try again. */
const attempts = 5;

/** Who has a lock. */
interface Holder {
  readonly pid: number;
  readonly beginning: string;
  readonly numberSpace: string;
}

function read(path: string, readIt: (path: string) => string): string {
  try {
    return readIt(path);
  } catch {
    return '';
  }
}

/** Where process numbers mean the same: this boot of this machine, and this container in it. */
function numberSpace(): string {
  const boot = read('/proc/sys/kernel/random/boot_id', (path) => readFileSync(path, 'utf8')).trim();
  return `${hostname()} ${boot} ${read('/proc/self/ns/pid', readlinkSync)}`;
}

/** When a process began, so that a later one with the same number is not taken for it. Linux only, elsewhere empty. */
function beginning(pid: number): string {
  const stat = read(`/proc/${pid}/stat`, (path) => readFileSync(path, 'utf8'));
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // There is one, of somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** @returns undefined when nobody has it any more. */
function holderOf(path: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Holder;
    const { mtimeMs } = statSync(path);
    // In the same place a process number says it all; from elsewhere only whether the lock is still being touched.
    const isHeld =
      holder.numberSpace === numberSpace()
        ? isRunning(holder.pid) && beginning(holder.pid) === holder.beginning
        : Date.now() - mtimeMs < staleMs;
    return isHeld ? holder : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Sees to it that one process at a time is at something, in several containers or on several machines that share a folder as well. A
 * lock whose process has ended is nobody's: at once where its number can be looked up, elsewhere after 10 seconds.
 *
 * Each who wants it puts a file of his own beside the path and then looks for those of others, so of two who come at once no two
 * believe that they have it.
 *
 * @param path what is locked. It need not exist, and its folder must.
 * @param hint what to do when somebody else has it.
 * @returns gives it back.
 * @throws MailError `FOLDER_IN_USE`.
 */
export async function lockPath(path: string, hint?: string): Promise<() => void> {
  const [folder, prefix] = [dirname(path), `${basename(path)}.lock-`];
  const own = `${prefix}${randomUUID()}`;
  const ownPath = join(folder, own);
  const me: Holder = { pid: process.pid, beginning: beginning(process.pid), numberSpace: numberSpace() };
  const take = (): void => {
    // Whole from the beginning on: half a file would be nobody's.
    writeFileSync(`${folder}/.${own}`, JSON.stringify(me), { mode: 0o600 });
    renameSync(`${folder}/.${own}`, ownPath);
  };
  const give = (): void => rmSync(ownPath, { force: true });
  for (let attempt = 1; ; attempt++) {
    take();
    const others = readdirSync(folder).filter((name) => name.startsWith(prefix) && name !== own);
    const holders = others.map((name) => ({ name, holder: holderOf(join(folder, name)) }));
    for (const { name, holder } of holders) if (!holder) rmSync(join(folder, name), { force: true });
    const holder = holders.find((one) => one.holder)?.holder;
    if (!holder) break;
    give();
    if (attempt === attempts) {
      throw new MailError('FOLDER_IN_USE', `${path} is in use by another process (${holder.pid}).`, {
        hint,
        details: { path, pid: holder.pid },
      });
    }
    // It may be one that came at the same moment and steps back as well.
    await delay(10 + Math.random() * 90);
  }
  const timer = setInterval(() => {
    const now = new Date();
    try {
      utimesSync(ownPath, now, now);
    } catch {
      // Somebody took the file away, or took this process for ended while it was stopped; it says so again.
      take();
    }
  }, touchMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    give();
  };
}
