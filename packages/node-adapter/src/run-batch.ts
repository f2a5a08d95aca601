import { anySignal, parseWith, regardless } from '@flowpost/core';
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

/** What a batch runs in, how wide, and who hears of its rows. */
export interface BatchHost extends Omit<NodeHost, 'onSettled' | 'beforeData' | 'leavingSignal'> {
  /** Rows under way at once; sessions are limited by the connection besides. Default 5. */
  readonly concurrency?: number | undefined;
  /**
   * When it is aborted no further row is begun and those that wait are cancelled; only messages that may be leaving are finished.
   * `signal` cancels those as well.
   */
  readonly stopping?: AbortSignal | undefined;
  /** Called for each row as it is begun, before anything is done for it. */
  readonly onBegin?: ((index: number) => void) | undefined;
  /**
   * Called for each row when its recipients are accepted and no byte of the message has left: the place to write down that from
   * now on it may be sent. When it fails, the message is not sent.
   */
  readonly beforeData?: ((index: number) => void | Promise<void>) | undefined;
}

const concurrencySchema = z.number().int().min(1);

interface Finished<Row extends object> {
  readonly row: BatchRow<Row>;
  /** Makes room for the next one. */
  readonly release: () => void;
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
  { concurrency: wanted = 5, onBegin, beforeData, stopping, ...host }: BatchHost,
): AsyncGenerator<BatchRow<Row>, void, undefined> {
  const concurrency = parseWith(concurrencySchema, wanted);
  const scope = host.scope ?? createFlowScope();
  const source = Symbol.asyncIterator in rows ? rows[Symbol.asyncIterator]() : rows[Symbol.iterator]();
  const finished: Finished<Row>[] = [];
  const underWay = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  let ended = false;
  let count = 0;
  let changed = Promise.withResolvers<void>();
  const end = (): void => {
    ended = true;
    changed.resolve();
  };
  const signal = anySignal(host.signal, stopping);
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  const signalsOfRow = { signal, ...(stopping && { leavingSignal: host.signal }) };

  const run = async (index: number, row: Row): Promise<BatchRow<Row>> => {
    onBegin?.(index);
    const settled = Promise.withResolvers<NodeOutcome>();
    const begun = await runNode(definition, settings, {
      ...host,
      ...signalsOfRow,
      scope,
      names: { ...host.names, row },
      onSettled: settled.resolve,
      ...(beforeData && { beforeData: () => beforeData(index) }),
    });
    const isQueued = 'receipt' in begun && begun.receipt.status === 'queued';
    return { index, row, outcome: isQueued ? await settled.promise : begun };
  };
  const begin = (index: number, row: Row): Promise<void> => {
    const room = Promise.withResolvers<void>();
    const running = run(index, row)
      .then((one) => void finished.push({ row: one, release: room.resolve }))
      .catch((error: unknown) => {
        failure ??= { error };
        ended = true;
      })
      .finally(() => {
        underWay.delete(running);
        changed.resolve();
      });
    underWay.add(running);
    return room.promise;
  };
  const take = async (): Promise<{ readonly room: Promise<void> } | undefined> => {
    if (ended) return undefined;
    try {
      const next = await source.next();
      // One that comes when it is over was not begun.
      if (!next.done && !ended) return { room: begin(count++, next.value) };
    } catch (error) {
      failure ??= { error };
    }
    end();
    return undefined;
  };
  /** Rows are asked for one after another, whoever asks. */
  let turn: Promise<unknown> = Promise.resolve();
  const work = async (): Promise<void> => {
    while (!ended) {
      const taking = turn.then(take);
      turn = taking;
      await (await taking)?.room;
    }
  };
  try {
    for (let place = 0; place < concurrency; place++) void work();
    while (true) {
      const one = finished.shift();
      if (one) {
        if (one.row.outcome.kind === 'halt') ended = true;
        yield one.row;
        one.release();
        continue;
      }
      if (ended && underWay.size === 0) break;
      await changed.promise;
      changed = Promise.withResolvers();
    }
    if (failure) throw failure.error;
  } finally {
    ended = true;
    signal.removeEventListener('abort', end);
    // Nothing is left under way, whoever stopped and why.
    await Promise.allSettled(underWay);
    // One that is waiting for something of its own is not waited for.
    regardless(() => source.return?.());
    if (!host.scope) await scope[Symbol.asyncDispose]();
  }
}
