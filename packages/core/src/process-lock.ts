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
import { MailError } from './errors/mail-error.ts';

/** How often a lock is touched, and after how long without that it is nobody's where nothing else can be known, in milliseconds. */
const touchMs = 2_000;
const staleMs = 10_000;
/** How often it is looked whether somebody else's is touched, in milliseconds. */
const lookMs = 500;
/** How often those who came at the same moment try again. */
const attempts = 5;

/** Who has a lock. */
interface Holder {
  readonly pid: number;
  readonly beginning: string;
  readonly numberSpace: string;
  /** The folder it is in, so that a copy of it is not taken for it. */
  readonly place?: string;
}

const placeOf = (folder: string): string => {
  const { dev, ino } = statSync(folder);
  return `${dev} ${ino}`;
};

function read(path: string, readIt: (path: string) => string): string {
  try {
    return readIt(path);
  } catch {
    return '';
  }
}

/** This boot of this machine. Linux only, elsewhere empty. */
export const readBootId = (): string =>
  read('/proc/sys/kernel/random/boot_id', (path) => readFileSync(path, 'utf8')).trim();

/** Where process numbers mean the same: this boot of this machine, and this container in it. */
function numberSpace(): string {
  return `${hostname()} ${readBootId()} ${read('/proc/self/ns/pid', readlinkSync)}`;
}

/** When a process began, so that a later one with the same number is not taken for it. Linux only, elsewhere empty. */
function beginning(pid: number): string {
  const stat = read(`/proc/${pid}/stat`, (path) => readFileSync(path, 'utf8'));
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // One that has ended stays listed until somebody asks how (proc_pid_stat(5): zombie, dead).
  return /^[ZX]/.test(fields[0] ?? '') ? '' : (fields[19] ?? '');
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

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/** Whose a lock is. `unknown` is somebody elsewhere, or somebody whose lock cannot be read. */
function holderOf(path: string): Holder | 'nobody' | 'unknown' {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    return codeOf(error) === 'ENOENT' ? 'nobody' : 'unknown';
  }
  try {
    const holder = JSON.parse(text) as Holder;
    if (holder.numberSpace !== numberSpace()) return 'unknown';
    if (holder.place !== undefined && holder.place !== placeOf(dirname(path))) return 'nobody';
    return isRunning(holder.pid) && beginning(holder.pid) === holder.beginning ? holder : 'nobody';
  } catch {
    return 'nobody';
  }
}

/** Whether a lock is touched while one watches; clocks of different machines need not agree. */
async function isTouched(path: string): Promise<boolean> {
  const touched = (): number | undefined => {
    try {
      return statSync(path).mtimeMs;
    } catch (error) {
      return codeOf(error) === 'ENOENT' ? undefined : Number.NaN;
    }
  };
  const before = touched();
  for (let waited = 0; waited < staleMs; waited += lookMs) {
    await delay(lookMs);
    const now = touched();
    if (now === undefined) return false;
    if (now !== before) return true;
  }
  return false;
}

/** Takes somebody's lock away who has ended. @returns whether it is gone. */
function remove(path: string): boolean {
  try {
    rmSync(path, { force: true });
    return true;
  } catch {
    return false;
  }
}

/** The locks of others, without those that are nobody's. */
function othersOf(folder: string, prefix: string, own: string): { path: string; pid?: number }[] {
  const names = readdirSync(folder).filter((name) => name.startsWith(prefix) && name !== own);
  return names.flatMap((name) => {
    const path = join(folder, name);
    const holder = holderOf(path);
    if (holder === 'unknown') return [{ path }];
    if (holder !== 'nobody') return [{ path, pid: holder.pid }];
    return remove(path) ? [] : [{ path }];
  });
}

/**
 * Sees to it that one process at a time is at something, in several containers or on several machines that share a folder as well. A
 * lock whose process has ended is nobody's: at once where its number can be looked up, elsewhere when it was watched for 10 seconds
 * and not touched.
 *
 * Each who wants it puts a file of his own beside the path and then looks for those of others, so of two who come at once no two
 * believe that they have it.
 *
 * @param path what is locked. It need not exist, and its folder must.
 * @param options.hint what to do when somebody else has it.
 * @param options.onLost called when somebody elsewhere took this process for ended, because it was stopped for long. It has to end
 * then, at once.
 * @returns gives it back.
 * @throws MailError `FOLDER_IN_USE`.
 */
export async function lockPath(
  path: string,
  { hint, onLost }: { readonly hint?: string; readonly onLost: () => void },
): Promise<() => void> {
  const [folder, prefix] = [dirname(path), `${basename(path)}.lock-`];
  const own = `${prefix}${randomUUID()}`;
  const ownPath = join(folder, own);
  const known = { pid: process.pid, beginning: beginning(process.pid), numberSpace: numberSpace() };
  const take = (): void => {
    const me: Holder = { ...known, place: placeOf(folder) };
    const hidden = join(folder, `.${own}`);
    try {
      // Whole from the beginning on: half a file would be nobody's. Others have to read it, whoever they are.
      writeFileSync(hidden, JSON.stringify(me), { mode: 0o644 });
      renameSync(hidden, ownPath);
    } catch (error) {
      remove(hidden);
      throw error;
    }
  };
  const give = (): boolean => remove(ownPath);
  try {
    for (let attempt = 1; ; attempt++) {
      take();
      const [other] = othersOf(folder, prefix, own);
      if (!other) break;
      give();
      // One that is elsewhere and not touched has ended.
      if (other.pid === undefined && !(await isTouched(other.path)) && remove(other.path)) continue;
      if (other.pid === undefined || attempt >= attempts) {
        const who = other.pid === undefined ? 'elsewhere' : `(${other.pid})`;
        const details = { path, ...(other.pid !== undefined && { pid: other.pid }) };
        throw new MailError('FOLDER_IN_USE', `${path} is in use by another process ${who}.`, {
          hint,
          details,
        });
      }
      // It may be one that came at the same moment and steps back as well.
      await delay(10 + Math.random() * 90);
    }
  } catch (error) {
    give();
    // What is wrong is wrong with the folder, whatever the file in it is called.
    if ((error as NodeJS.ErrnoException).syscall !== undefined)
      Object.assign(error as object, { path: folder });
    throw error;
  }
  const touch = (): void => {
    const now = new Date();
    try {
      utimesSync(ownPath, now, now);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') return;
      // Somebody took it away: one who believes that this process has ended, or one who tidies up.
      if (othersOf(folder, prefix, own).length > 0) onLost();
      else take();
    }
  };
  const timer = setInterval(() => {
    try {
      touch();
    } catch {
      // The disk may be full, or away; it comes again.
    }
  }, touchMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    give();
  };
}
