import { type SendOptions, type SendReceipt, toMailError } from '@flowpost/core';
import type { z } from 'zod';
import { deliver } from './flow/deliver.ts';
import type { FlowData } from './flow/flow-data.ts';
import { createFlowScope, type FlowScope } from './flow/flow-scope.ts';
import { storeResult } from './flow/result-storage.ts';
import type { FailurePolicy, NodeDefinition, NodeError, NodeOutcome } from './node.ts';
import { type PreparedRun, type PrepareOptions, prepareRun } from './prepare-run.ts';

/** What a host gives a node to run with. */
export interface NodeHost extends PrepareOptions, Pick<SendOptions, 'beforeData' | 'transcript'> {
  /** Where sessions and tokens live. Default: a scope of its own, closed when the node has ended. */
  readonly scope?: FlowScope | undefined;
  /** Cancels the run. An asynchronous send goes on without it. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Hears how an asynchronous send ended. `store` puts its result into the flow's data as it is by then.
   */
  readonly onSettled?: ((outcome: NodeOutcome, store: (flow: FlowData) => FlowData) => void) | undefined;
}

/** Stores a result where the policy wants it. After a failure, a place that cannot hold it is no second failure. */
function stored(
  flow: FlowData,
  store: FailurePolicy['store'],
  result: SendReceipt | { error: NodeError },
): FlowData {
  if (!store) return flow;
  try {
    return storeResult(flow, store, result);
  } catch (error) {
    if ('error' in result) return flow;
    throw error;
  }
}

const noTime = { sessionMs: 0, composeMs: 0, deliverMs: 0, totalMs: 0 };

/** What is known of a message that waits to be sent. */
function queuedReceipt({ request }: PreparedRun): SendReceipt {
  return {
    status: 'queued',
    messageId: request.message.messageId ?? '',
    accepted: [],
    rejected: [],
    response: '',
    attempts: 0,
    timings: noTime,
    sizeBytes: 0,
  };
}

/** One node with its settings, about to run. */
class Run<Settings extends z.ZodType> {
  readonly #definition: NodeDefinition<Settings>;
  readonly #settings: unknown;
  readonly #host: NodeHost;
  readonly #policy: FailurePolicy;

  constructor(definition: NodeDefinition<Settings>, settings: unknown, host: NodeHost) {
    this.#definition = definition;
    this.#settings = settings;
    this.#host = host;
    const { stopOnError, store } = definition.failurePolicy(settings);
    // An expression that was not worked out names no place.
    this.#policy = { stopOnError, store: store?.key.includes('{{') ? undefined : store };
  }

  prepare(): PreparedRun {
    return prepareRun(this.#definition, this.#settings, this.#host);
  }

  async send({ request }: PreparedRun, scope: FlowScope, signal?: AbortSignal): Promise<SendReceipt> {
    const { nodeId = this.#definition.type, ...host } = this.#host;
    return deliver(request, { ...host, nodeId, scope, signal });
  }

  succeeded(receipt: SendReceipt, { warnings, request }: PreparedRun): NodeOutcome {
    const flow = stored(this.#host.flow, request.policy.store, receipt);
    return { kind: 'continue', receipt, flow, ...(warnings.length > 0 && { warnings }) };
  }

  failed(thrown: unknown, prepared?: PreparedRun): NodeOutcome {
    const error = this.#definition.describeError(toMailError(thrown), this.#settings);
    const { stopOnError, store } = prepared?.request.policy ?? this.#policy;
    const warnings = prepared?.warnings ?? [];
    const flow = stored(this.#host.flow, store, { error });
    return {
      kind: stopOnError ? 'halt' : 'continue',
      error,
      flow,
      ...(warnings.length > 0 && { warnings }),
    };
  }

  async end(prepared: PreparedRun, scope: FlowScope, signal?: AbortSignal): Promise<NodeOutcome> {
    try {
      return this.succeeded(await this.send(prepared, scope, signal), prepared);
    } catch (thrown) {
      return this.failed(thrown, prepared);
    }
  }

  /** Starts the send in the background. The scope, if it is this run's own, ends with it. */
  queue(prepared: PreparedRun, scope: FlowScope): NodeOutcome {
    const { onSettled, scope: shared } = this.#host;
    const { store } = prepared.request.policy;
    scope.background.run(async () => {
      try {
        const outcome = await this.end(prepared, scope);
        const result = 'error' in outcome ? { error: outcome.error } : outcome.receipt;
        onSettled?.(outcome, (flow) => stored(flow, store, result));
      } finally {
        // Not waited for here: it waits for this task.
        if (!shared) void scope[Symbol.asyncDispose]();
      }
    });
    return this.succeeded(queuedReceipt(prepared), prepared);
  }
}

/**
 * Runs a node: settings and flow data in, outcome out. Never throws for a send that failed: the outcome halts the
 * flow or lets it go on, as the settings say, and the result is stored where they say. An asynchronous send is `queued`
 * once its settings are known to be right; `host.onSettled` hears the rest.
 */
export async function runNode<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  host: NodeHost,
): Promise<NodeOutcome> {
  const run = new Run(definition, settings, host);
  let prepared: PreparedRun;
  try {
    prepared = run.prepare();
  } catch (thrown) {
    return run.failed(thrown);
  }
  const scope = host.scope ?? createFlowScope();
  if (prepared.request.policy.async) return run.queue(prepared, scope);
  try {
    return await run.end(prepared, scope, host.signal);
  } finally {
    if (!host.scope) await scope[Symbol.asyncDispose]();
  }
}
