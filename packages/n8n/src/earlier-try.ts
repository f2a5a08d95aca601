import type { SendReceipt } from '@flowpost/core';
import type { NodeError } from '@flowpost/node-adapter';
import type { IExecuteFunctions } from 'n8n-workflow';

/** What became of one item. */
export type ItemOutcome = { readonly receipt: SendReceipt } | { readonly error: NodeError };

/** n8n waits for 5 seconds at most before it tries a node again. */
const keptMs = 60_000;

const kept = new Map<string, ReadonlyMap<number, ItemOutcome>>();

/** The same for each try of a node, and for nothing else; undefined where n8n does not try it again. */
function keyOf(context: IExecuteFunctions): string | undefined {
  // Ids of nodes may be missing, or there twice; their names are not.
  const { name, retryOnFail } = context.getNode();
  const execution = context.getExecutionId();
  // What n8n says where an execution has no id.
  if (!retryOnFail || !execution || execution === '__UNKNOWN__') return undefined;
  return `${execution} ${String(context.evaluateExpression('{{ $runIndex }}', 0))} ${name}`;
}

/**
 * What the try before this one has sent, and what may be sent since then: with "Retry On Fail" n8n runs a node with all of its items
 * again when one has failed.
 */
export function takeEarlierTry(context: IExecuteFunctions): ReadonlyMap<number, ItemOutcome> {
  const key = keyOf(context);
  const found = key === undefined ? undefined : kept.get(key);
  if (key !== undefined) kept.delete(key);
  return found ?? new Map();
}

/** Keeps what must not be sent again, when some items have failed. */
export function keepTry(context: IExecuteFunctions, outcomes: ReadonlyMap<number, ItemOutcome>): void {
  const key = keyOf(context);
  const all = [...outcomes];
  if (key === undefined || all.every(([, outcome]) => 'receipt' in outcome)) return;
  const done = new Map(all.filter(([, outcome]) => 'receipt' in outcome || outcome.error.inDoubt));
  kept.set(key, done);
  setTimeout(() => {
    // That of a later try has its own time.
    if (kept.get(key) === done) kept.delete(key);
  }, keptMs).unref();
}
