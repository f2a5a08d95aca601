import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** One subject of a comparison: does the work once. */
export type Work = () => unknown;

const roundMs = 600;
const rounds = 5;

async function repeat(work: Work, ms: number): Promise<number> {
  let count = 0;
  const start = performance.now();
  let elapsed = 0;
  while (elapsed < ms) {
    for (let batch = 0; batch < 8; batch++) await work();
    count += 8;
    elapsed = performance.now() - start;
  }
  return (count / elapsed) * 1_000;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/**
 * How often a second each subject does its work: in turn, several rounds each after a warm-up, so that what else the
 * machine does meets all of them. The median of the rounds counts.
 */
export async function perSecond<Name extends string>(
  subjects: Readonly<Record<Name, Work>>,
): Promise<Record<Name, number>> {
  const entries = Object.entries<Work>(subjects);
  const found = new Map<string, number[]>(entries.map(([name]) => [name, []]));
  for (const [, work] of entries) await repeat(work, roundMs);
  for (let round = 0; round < rounds; round++) {
    for (const [name, work] of entries) found.get(name)?.push(await repeat(work, roundMs));
  }
  return Object.fromEntries([...found].map(([name, values]) => [name, median(values)])) as Record<
    Name,
    number
  >;
}

const flags = ['--conditions=@flowpost/source', '--expose-gc'];

/** Runs a job in a process of its own, whose memory is nobody else's; it prints one JSON document. */
export async function runJob<Result>(name: string, ...args: readonly string[]): Promise<Result> {
  const script = fileURLToPath(new URL(`./jobs/${name}.ts`, import.meta.url));
  const child = spawn(process.execPath, [...flags, script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[number]>]);
  if (code !== 0) throw new Error(`the job ${name} ${args.join(' ')} failed`);
  return JSON.parse(output) as Result;
}

/** Starts a job that prints one line of JSON and goes on until it is disposed of. */
export async function startJob<Ready>(
  name: string,
  ...args: readonly string[]
): Promise<AsyncDisposable & { readonly ready: Ready; ask(): Promise<unknown> }> {
  const script = fileURLToPath(new URL(`./jobs/${name}.ts`, import.meta.url));
  const child = spawn(process.execPath, [...flags, script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const [ready] = await once(child, 'message');
  return {
    ready: ready as Ready,
    async ask() {
      child.send('report');
      const [answer] = await once(child, 'message');
      return answer;
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'close');
    },
  };
}
