import { type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { median } from './measure.ts';

/** What running a program to its end cost. */
export interface Cost {
  /** From its start to its end, in milliseconds. */
  readonly ms: number;
  /** The most memory it had, in MB, as far as looking every few milliseconds can tell. */
  readonly peakMb: number;
  readonly out: string;
}

const status = (pid: number, field: 'VmHWM' | 'VmRSS'): number => {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN) / 1_024;
  } catch {
    return Number.NaN;
  }
};

/** The memory of a process now, in MB. */
export const residentMb = (pid: number): number => status(pid, 'VmRSS');

/** Runs a program once. @throws Error when it fails. */
export async function runProgram(
  program: string,
  args: readonly string[],
  {
    watch = false,
    onStart,
    ...options
  }: SpawnOptions & { watch?: boolean; onStart?: (pid: number) => void } = {},
): Promise<Cost> {
  const started = performance.now();
  const child = spawn(program, [...args], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  let out = '';
  let err = '';
  child.stdout?.on('data', (chunk) => (out += chunk));
  child.stderr?.on('data', (chunk) => (err += chunk));
  if (child.pid !== undefined) onStart?.(child.pid);
  let peakMb = 0;
  const timer =
    watch && setInterval(() => (peakMb = Math.max(peakMb, status(child.pid ?? 0, 'VmHWM') || 0)), 2);
  const [code] = await ended;
  const ms = performance.now() - started;
  if (timer) clearInterval(timer);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} failed (${code}): ${err.slice(0, 2_000)}`);
  return { ms, peakMb, out };
}

/** Runs programs in turn, so that what else the machine does meets all of them; the median of each. */
export async function compareRuns<Name extends string>(
  programs: Readonly<Record<Name, readonly [program: string, ...args: string[]]>>,
  rounds: number,
): Promise<Record<Name, { readonly ms: number; readonly peakMb: number }>> {
  const entries = Object.entries<readonly [string, ...string[]]>(programs);
  const times = new Map<string, number[]>(entries.map(([name]) => [name, []]));
  // The first one fills caches, its own included.
  for (const [, [program, ...args]] of entries) await runProgram(program, args);
  for (let round = 0; round < rounds; round++) {
    for (const [name, [program, ...args]] of entries)
      times.get(name)?.push((await runProgram(program, args)).ms);
  }
  const found: Record<string, { ms: number; peakMb: number }> = {};
  for (const [name, [program, ...args]] of entries) {
    // Apart, because looking costs time.
    const { peakMb } = await runProgram(program, args, { watch: true });
    found[name] = { ms: median(times.get(name) ?? []), peakMb };
  }
  return found as Record<Name, { readonly ms: number; readonly peakMb: number }>;
}
