import type { z } from 'zod';
import { createFlowScope } from './flow/flow-scope.ts';
import type { NodeDefinition, NodeOutcome } from './node.ts';
import { type NodeHost, runNode } from './run-node.ts';

export type BatchData = Readonly<Record<string, unknown>>;

/** What became of one row. */
export interface BatchRow {
  /** Its place in the input, from 0. */
  readonly index: number;
  readonly row: BatchData;
  readonly outcome: NodeOutcome;
}

export interface BatchHost extends NodeHost {
  /** Rows under way at once; sessions are limited by the connection besides. Default 5. */
  readonly concurrency?: number | undefined;
}

/**
 * Runs a node once for each row, a message each: one template, many recipients. Expressions in the settings see the row as
 * `row`. Rows are taken as they can be sent, so there may be any number of them; results come in the order they end in. When a
 * failure halts (`stopOnError`), no further row is begun, and those under way are ended first.
 *
 * @example
 * for await (const { index, outcome } of runBatch(findNode('send-email'), { ...settings, to: '{{ row.email }}' }, rows, host))
 */
export async function* runBatch<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  rows: Iterable<BatchData> | AsyncIterable<BatchData>,
  { concurrency = 5, ...host }: BatchHost,
): AsyncGenerator<BatchRow, void, undefined> {
  const scope = host.scope ?? createFlowScope();
  const running = new Map<number, Promise<BatchRow>>();
  const source = toAsync(rows);
  let index = 0;
  let exhausted = false;
  const begin = (at: number, row: BatchData): void => {
    const names = { ...host.names, row };
    const run = runNode(definition, settings, { ...host, scope, names });
    running.set(
      at,
      run.then((outcome) => ({ index: at, row, outcome })),
    );
  };
  try {
    while (true) {
      while (!exhausted && running.size < concurrency) {
        const next = await source.next();
        if (next.done === true) exhausted = true;
        else begin(index++, next.value);
      }
      if (running.size === 0) return;
      const ended = await Promise.race(running.values());
      running.delete(ended.index);
      if (ended.outcome.kind === 'halt' || host.signal?.aborted) exhausted = true;
      yield ended;
    }
  } finally {
    // Nothing is left under way, whoever stopped and why.
    await Promise.allSettled(running.values());
    await source.return(undefined);
    if (!host.scope) await scope[Symbol.asyncDispose]();
  }
}

async function* toAsync<Value>(values: Iterable<Value> | AsyncIterable<Value>): AsyncGenerator<Value> {
  yield* values;
}
