// The embedded database, in a thread of its own: while PostgreSQL computes here, the other thread serves requests and sends mail.
import { parentPort, workerData } from 'node:worker_threads';
import { openDurablePglite } from './durable-pglite.ts';
import { literal } from './literal.ts';
import type { ThreadError, ThreadRequest, ThreadResponse } from './pglite-client.ts';
import { Statements } from './statements.ts';

/** PostgreSQL has ended in here, and nothing will work any more. */
class DatabaseEnded extends Error {}

/** What no statement of ours brings about as long as PostgreSQL is in order: its own errors, those of its files, and of its portals. */
const endings = /^(?:58|XX|57P|24000)/;

const say = (response: ThreadResponse): void => parentPort?.postMessage(response);
const asThreadError = (error: unknown): ThreadError => {
  const { message, code } = error as { message: string; code?: unknown };
  return { message, ...(typeof code === 'string' && { code }) };
};

const statements = new Statements();
const prepared = new Set<string>();
let once = 0;

async function execute(text: string): Promise<unknown[]> {
  const results = await pglite.exec(text);
  // Whatever was done says that it was. When PostgreSQL has ended, what is left of it answers all the same, with nothing.
  if (results.some(({ command }) => command === undefined)) throw new DatabaseEnded('the database has ended');
  // After a failure in a transaction its end is a rollback, whatever it was meant to be.
  if (text === 'commit' && results[0]?.command !== 'COMMIT')
    throw new Error('the transaction was rolled back');
  return results.flatMap(({ rows }) => rows);
}

async function run(text: string, values: readonly unknown[]): Promise<unknown[]> {
  if (values.length === 0) return execute(text);
  // Reading and planning a statement takes longer than executing it, so it is done once.
  const name = statements.nameOf(text);
  const called = name ?? `flowpost_once_${once++}`;
  const given = values.map(literal).join(', ');
  if (!prepared.has(called)) await execute(`prepare ${called} as ${text}`);
  if (name !== undefined) prepared.add(name);
  try {
    return await execute(`execute ${called}(${given})`);
  } finally {
    // Not within a transaction that has failed; then it is left, under a name that does not come again.
    if (name === undefined) await pglite.exec(`deallocate ${called}`).catch(() => undefined);
  }
}

async function answer({ id, text, values = [] }: ThreadRequest): Promise<void> {
  try {
    say({ id, rows: await run(text, values) });
  } catch (error) {
    // A failure within begin and commit must not stay for whoever comes next.
    if (/^\s*begin\b.*;/is.test(text)) await pglite.exec('rollback').catch(() => undefined);
    say({ id, error: asThreadError(error) });
    // Whoever starts another one reads what was committed.
    const { code = '', name, severity } = error as { code?: string; name?: string; severity?: string };
    const hasEnded = error instanceof DatabaseEnded || name === 'RuntimeError' || name === 'RangeError';
    if (hasEnded || severity === 'FATAL' || severity === 'PANIC' || endings.test(code)) process.exit(1);
  }
}

const { pglite, survivesPowerLoss } = await openDurablePglite(workerData as string, () => process.exit(1));
// Nobody gathers statistics here, and without them the planner reads whole tables to find a few rows by their key.
await pglite.exec('set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off');
// One after another, in the order they come.
let last: Promise<void> = Promise.resolve();
parentPort?.on('message', (request: ThreadRequest | 'close') => {
  last =
    request === 'close'
      ? last.then(() => pglite.close()).finally(() => parentPort?.close())
      : last.then(() => answer(request));
});
say({ survivesPowerLoss });
