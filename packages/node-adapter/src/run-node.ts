import {
  guardLogger,
  noTimings,
  parseMessage,
  type SendOptions,
  type SendReceipt,
  silentLogger,
  toMailError,
} from '@flowpost/core';
import type { z } from 'zod';
import { resolveDynamicFields } from './dynamic-fields.ts';
import { deliver } from './flow/deliver.ts';
import type { FlowData } from './flow/flow-data.ts';
import { createFlowScope, type FlowScope } from './flow/flow-scope.ts';
import { storeResult } from './flow/result-storage.ts';
import { type TakenIn, takeIn } from './flow/taken-in.ts';
import type { FailurePolicy, NodeDefinition, NodeError, NodeOutcome, NodeWarning } from './node.ts';
import { type PreparedRun, type PrepareOptions, prepareRun } from './prepare-run.ts';

/** What a host gives a node to run with. */
export interface NodeHost extends PrepareOptions, Pick<SendOptions, 'beforeData' | 'transcript'> {
  /** Where sessions and tokens live. Default: a scope of its own, closed when the node has ended. */
  readonly scope?: FlowScope | undefined;
  /** Cancels the run. An asynchronous send goes on without it. */
  readonly signal?: AbortSignal | undefined;
  /** Cancels a message that may be leaving, which `signal` then no longer does. Default `signal`. */
  readonly leavingSignal?: AbortSignal | undefined;
  /**
   * Hears how an asynchronous send ended. `store` puts its result into the flow's data as it is by then.
   */
  readonly onSettled?:
    | ((outcome: NodeOutcome, store: (flow: FlowData) => FlowData) => void | Promise<void>)
    | undefined;
}

/** Stores a result where the policy wants it; where there is no room for it, that is no failure of its own. */
function stored(
  flow: FlowData,
  store: FailurePolicy['store'],
  result: SendReceipt | { error: NodeError },
): FlowData {
  try {
    return store ? storeResult(flow, store, result) : flow;
  } catch {
    return flow;
  }
}

const notStored: NodeWarning = {
  code: 'RESULT_NOT_STORED',
  message:
    'The message was sent, but its result could not be stored: the flow has something else in that place by now.',
};

const stops: FailurePolicy = { stopOnError: true, store: undefined };

/** How a failure ends, whatever else the settings are; so what decides it is worked out apart from the rest. */
function policyOf(
  { failurePolicy }: Pick<NodeDefinition, 'failurePolicy'>,
  settings: unknown,
  { flow, dynamicFields = true, names }: PrepareOptions,
): FailurePolicy {
  if (!failurePolicy) return stops;
  const resolved: Record<string, unknown> = {};
  for (const key of failurePolicy.reads) {
    try {
      const value = (settings as Record<string, unknown> | null | undefined)?.[key];
      if (value === undefined) continue;
      resolved[key] = dynamicFields ? resolveDynamicFields(value, flow, undefined, names) : value;
    } catch {
      // It stays as if it were not given.
    }
  }
  try {
    return failurePolicy.of(resolved);
  } catch {
    return stops;
  }
}

/** What is known of a message that waits to be sent. */
function queuedReceipt({ request }: PreparedRun): SendReceipt {
  return {
    status: 'queued',
    messageId: request.message.messageId ?? '',
    accepted: [],
    rejected: [],
    response: '',
    attempts: 0,
    timings: noTimings,
    sizeBytes: 0,
  };
}

/**
 * One node with its settings, about to run: for hosts that do something of their own between its steps, such as writing down
 * what is about to be sent. Everybody else calls {@link runNode}.
 */
export class NodeRun<Settings extends z.ZodType> {
  readonly #definition: NodeDefinition<Settings>;
  readonly #settings: unknown;
  readonly #host: NodeHost;
  readonly #policy: FailurePolicy;

  constructor(definition: NodeDefinition<Settings>, settings: unknown, host: NodeHost) {
    this.#definition = definition;
    this.#settings = settings;
    this.#host = host;
    this.#policy = policyOf(definition, settings, host);
  }

  /** @throws MailError when settings and flow data make no request that could be sent; {@link failed} makes an outcome of it. */
  prepare(): PreparedRun {
    const prepared = prepareRun(this.#definition, this.#settings, this.#host);
    // A preview may do without recipients. A message that waits for its turn must not be found to have none then.
    parseMessage(prepared.request.message);
    return prepared;
  }

  /** The error in the platform's words; in ours when even that fails. */
  #describe(thrown: unknown, settings: unknown): NodeError {
    const error = toMailError(thrown);
    try {
      return this.#definition.describeError(error, settings);
    } catch {
      return error.toJSON();
    }
  }

  async #send({ request }: PreparedRun, scope: FlowScope, signal?: AbortSignal): Promise<SendReceipt> {
    const { nodeId = this.#definition.type, ...host } = this.#host;
    return deliver(request, { ...host, nodeId, scope, signal });
  }

  /** The outcome of a message that was sent, or put where it will be. */
  sent(receipt: SendReceipt, prepared: PreparedRun): NodeOutcome {
    const { store } = prepared.request.policy;
    let { flow } = this.#host;
    let { warnings } = prepared;
    try {
      if (store) flow = storeResult(flow, store, receipt);
    } catch {
      // The place was free before and is not any more. That changes nothing about the message.
      warnings = [...warnings, notStored];
    }
    return { kind: 'continue', receipt, flow, ...(warnings.length > 0 && { warnings }) };
  }

  /** The outcome of a failure. */
  failed(thrown: unknown, prepared?: PreparedRun): NodeOutcome {
    return this.failedBefore(this.#describe(thrown, prepared?.settings ?? this.#settings), prepared);
  }

  /** The outcome of a failure that was written down earlier. */
  failedBefore(error: NodeError, prepared?: PreparedRun): NodeOutcome {
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

  /** Sends, and says how it ended. Does not throw. */
  async end(prepared: PreparedRun, scope: FlowScope, signal?: AbortSignal): Promise<NodeOutcome> {
    let receipt: SendReceipt;
    try {
      receipt = await this.#send(prepared, scope, signal);
    } catch (thrown) {
      return this.failed(thrown, prepared);
    }
    return this.sent(receipt, prepared);
  }

  /** Starts the send in the background. The scope, if it is this run's own, ends with it. */
  queue({ prepared, release }: TakenIn, scope: FlowScope): NodeOutcome {
    const { onSettled, scope: shared } = this.#host;
    const { store } = prepared.request.policy;
    try {
      const settled = async (outcome: NodeOutcome): Promise<void> => {
        release();
        const result = 'error' in outcome ? { error: outcome.error } : outcome.receipt;
        try {
          await onSettled?.(outcome, (flow) => stored(flow, store, result));
        } catch (error) {
          const { message } = toMailError(error);
          const logger = guardLogger(scope.options.logger ?? silentLogger);
          logger.error('the host failed to hear how an asynchronous send ended', { message });
        }
        // Not waited for here: it waits for this task.
        if (!shared) void scope[Symbol.asyncDispose]();
      };
      scope.background.run(
        async () => settled(await this.end(prepared, scope, scope.closing)),
        (error) => void settled(this.failed(error, prepared)),
      );
    } catch (thrown) {
      release();
      return this.failed(thrown, prepared);
    }
    return this.queued(prepared);
  }

  /** The outcome of a send that waits for its turn. */
  queued(prepared: PreparedRun): NodeOutcome {
    return this.sent(queuedReceipt(prepared), prepared);
  }
}

/**
 * Runs a node: settings and flow data in, outcome out. Never throws for a send that failed: the outcome halts the
 * flow or lets it go on, as the settings say, and the result is stored where they say. An asynchronous send is `queued`
 * once its settings are known to be right and its files are read; `host.onSettled` hears the rest.
 */
export async function runNode<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  host: NodeHost,
): Promise<NodeOutcome> {
  const run = new NodeRun(definition, settings, host);
  let prepared: PreparedRun;
  try {
    prepared = run.prepare();
  } catch (thrown) {
    return run.failed(thrown);
  }
  const scope = host.scope ?? createFlowScope();
  const { async } = prepared.request.policy;
  let isQueued = false;
  try {
    if (!async) return await run.end(prepared, scope, host.signal);
    const taken = await takeIn(prepared, scope, host.signal);
    isQueued = true;
    return run.queue(taken, scope);
  } catch (thrown) {
    return run.failed(thrown, prepared);
  } finally {
    if (!host.scope && !isQueued) await scope[Symbol.asyncDispose]();
  }
}
