// The embedded database, in a thread of its own: while PostgreSQL computes here, the other thread serves requests and sends mail.
import { parentPort, workerData } from 'node:worker_threads';
import { openDurablePglite } from './durable-pglite.ts';
import { literal } from './literal.ts';
import type { ThreadError, ThreadRequest, ThreadResponse } from './pglite-client.ts';
import { Statements } from './statements.ts';

const say = (response: ThreadResponse): void => parentPort?.postMessage(response);
const asThreadError = (error: unknown): ThreadError => {
  const { message, code } = error as { message: string; code?: unknown };
  return { message, ...(typeof code === 'string' && { code }) };
};

const statements = new Statements();
const seen = new Set<string>();
const prepared = new Set<string>();

async function run(text: string, values: readonly unknown[]): Promise<unknown[]> {
  if (values.length === 0) return (await pglite.exec(text)).flatMap(({ rows }) => rows);
  const name = statements.nameOf(text);
  // Reading and planning a statement takes longer than executing it, so one that comes again is prepared.
  if (name === undefined || !seen.has(name)) {
    if (name !== undefined) seen.add(name);
    return (await pglite.query(text, [...values])).rows;
  }
  if (!prepared.has(name)) {
    await pglite.exec(`prepare ${name} as ${text}`);
    prepared.add(name);
  }
  const [result] = await pglite.exec(`execute ${name}(${values.map(literal).join(', ')})`);
  return result?.rows ?? [];
}

async function answer({ id, text, values = [] }: ThreadRequest): Promise<void> {
  try {
    say({ id, rows: await run(text, values) });
  } catch (error) {
    // A failure within begin and commit must not stay for whoever comes next.
    if (/^\s*begin\b.*;/is.test(text)) await pglite.exec('rollback').catch(() => undefined);
    say({ id, error: asThreadError(error) });
    // PostgreSQL has ended in there, and nothing will work any more. Whoever starts another one reads what was committed.
    const { code = '', name } = error as { code?: string; name?: string };
    if (name === 'RuntimeError' || /^(?:58|XX)/.test(code)) process.exit(1);
  }
}

const { pglite, survivesPowerLoss } = await openDurablePglite(workerData as string);
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
