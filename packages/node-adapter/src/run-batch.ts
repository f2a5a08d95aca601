import { parseWith } from '@flowpost/core';
import { z } from 'zod';
import { createFlowScope } from './flow/flow-scope.ts';
import type { NodeDefinition, NodeOutcome } from './node.ts';
import { type NodeHost, runNode } from './run-node.ts';

/** What became of one row. */
export interface BatchRow<Row extends object = Record<string, unknown>> {
  /** Its place in the input, from 0. */
  readonly index: number;
  readonly row: Row;
  readonly outcome: NodeOutcome;
}

export interface BatchHost extends Omit<NodeHost, 'onSettled'> {
  /** Rows under way at once; sessions are limited by the connection besides. Default 5. */
  readonly concurrency?: number | undefined;
}

const concurrencySchema = z.number().int().min(1);

/** Rows one after another, asked for when there is room. */
class Source<Row> {
  readonly #rows: AsyncIterator<Row> | Iterator<Row>;
  /** The row that was asked for and has not come. */
  next: Promise<{ readonly result?: IteratorResult<Row>; readonly error?: unknown }> | undefined;
  exhausted = false;
  failure: { readonly error: unknown } | undefined;

  constructor(rows: Iterable<Row> | AsyncIterable<Row>) {
    this.#rows = Symbol.asyncIterator in rows ? rows[Symbol.asyncIterator]() : rows[Symbol.iterator]();
  }

  ask(): void {
    this.next ??= (async () => this.#rows.next())().then(
      (result) => ({ result }),
      (error: unknown) => ({ error }),
    );
  }

  /** @returns the row, when there was one more. */
  take({ result, error }: Awaited<NonNullable<Source<Row>['next']>>): { readonly row: Row } | undefined {
    this.next = undefined;
    if (result && !result.done) return { row: result.value };
    if (!result) this.failure = { error };
    this.exhausted = true;
    return undefined;
  }

  close(): void {
    // One that is waiting for something of its own is not waited for.
    const ended = this.#rows.return?.();
    if (ended instanceof Promise) ended.catch(() => undefined);
  }
}

/**
 * Runs a node once for each row, a message each: one template, many recipients. Expressions in the settings see the row as
 * `row`. Rows are taken as they can be sent, so there may be any number of them; each is sent before it makes room for the next,
 * whatever the settings say about asynchronous sends. Results come in the order they end in. When a failure halts
 * (`stopOnError`) or the signal is aborted, no further row is begun; what was under way is still reported, and then a source that
 * failed throws its error.
 *
 * @throws MailError `INPUT_INVALID` for a concurrency that is no whole number above 0.
 * @example
 * for await (const { index, outcome } of runBatch(findNode('send-email'), { ...settings, to: '{{ row.email }}' }, rows, host))
 */
export async function* runBatch<Settings extends z.ZodType, Row extends object>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  rows: Iterable<Row> | AsyncIterable<Row>,
  { concurrency: wanted = 5, ...host }: BatchHost,
): AsyncGenerator<BatchRow<Row>, void, undefined> {
  const concurrency = parseWith(concurrencySchema, wanted);
  const scope = host.scope ?? createFlowScope();
  const running = new Map<number, Promise<BatchRow<Row>>>();
  const source = new Source(rows);
  const aborted = Promise.withResolvers<'aborted'>();
  const onAbort = (): void => aborted.resolve('aborted');
  host.signal?.addEventListener('abort', onAbort, { once: true });
  if (host.signal?.aborted) onAbort();
  let index = 0;
  const run = async (at: number, row: Row): Promise<BatchRow<Row>> => {
    const settled = Promise.withResolvers<NodeOutcome>();
    const begun = await runNode(definition, settings, {
      ...host,
      scope,
      names: { ...host.names, row },
      onSettled: settled.resolve,
    });
    const isQueued = 'receipt' in begun && begun.receipt.status === 'queued';
    return { index: at, row, outcome: isQueued ? await settled.promise : begun };
  };
  try {
    while (true) {
      if (!source.exhausted && running.size < concurrency) source.ask();
      if (running.size === 0 && !source.next) break;
      const asked = source.exhausted ? undefined : source.next;
      const first = await Promise.race([
        ...running.values(),
        ...(asked ? [asked] : []),
        ...(source.exhausted ? [] : [aborted.promise]),
      ]);
      if (first === 'aborted') {
        source.exhausted = true;
        source.next = undefined;
        continue;
      }
      if (!('index' in first)) {
        const next = source.take(first);
        if (next) {
          running.set(index, run(index, next.row));
          index++;
        }
        continue;
      }
      running.delete(first.index);
      if (first.outcome.kind === 'halt') {
        source.exhausted = true;
        source.next = undefined;
      }
      yield first;
    }
    if (source.failure) throw source.failure.error;
  } finally {
    host.signal?.removeEventListener('abort', onAbort);
    // Nothing is left under way, whoever stopped and why.
    await Promise.allSettled(running.values());
    source.close();
    if (!host.scope) await scope[Symbol.asyncDispose]();
  }
}
