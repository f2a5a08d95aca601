import { type MailError, type MailErrorJson, parseWith, type SendReceipt, toMailError } from '@flowpost/core';
import type { z } from 'zod';
import type { FlowData } from './flow/flow-data.ts';
import { createFlowScope, type FlowScope } from './flow/flow-scope.ts';
import { storeResult } from './flow/result-storage.ts';
import type { FailurePolicy, NodeDefinition, NodeOutcome } from './node.ts';

/** What a host gives a node to run with. */
export interface NodeHost {
  readonly flow: FlowData;
  /** Where sessions live. Default: a scope of its own, closed before the node ends. */
  readonly scope?: FlowScope;
  readonly signal?: AbortSignal;
}

async function deliver<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  { flow, scope, signal }: NodeHost & { readonly scope: FlowScope },
): Promise<SendReceipt> {
  const { connection, message, policy } = definition.toSendRequest(
    parseWith(definition.settings, settings),
    flow,
  );
  // Asked first: a key that can hold no result must not be found out after the message has gone.
  if (policy.store) storeResult(flow, policy.store, {});
  const { closeSession, onPartial, timeoutMs, dsn, requireTls } = policy;
  return scope.sender(connection).send(message, {
    closeSession,
    onPartial,
    dsn,
    requireTls,
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(signal && { signal }),
  });
}

/** Stores a result where the policy wants it. After a failure, a place that cannot hold it is no second failure. */
function stored(
  flow: FlowData,
  store: FailurePolicy['store'],
  result: SendReceipt | { error: MailErrorJson },
): FlowData {
  if (!store) return flow;
  try {
    return storeResult(flow, store, result);
  } catch (error) {
    if ('error' in result) return flow;
    throw error;
  }
}

/**
 * Runs a node: settings and flow data in, outcome out. Never throws for a send that failed: the outcome halts the
 * flow or lets it go on, as the settings say, and the result is stored where they say.
 */
export async function runNode<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  host: NodeHost,
): Promise<NodeOutcome> {
  const scope = host.scope ?? createFlowScope();
  const { stopOnError, store } = definition.failurePolicy(settings);
  try {
    const receipt = await deliver(definition, settings, { ...host, scope });
    return { kind: 'continue', receipt, flow: stored(host.flow, store, receipt) };
  } catch (thrown) {
    const failure: MailError = toMailError(thrown);
    const error = definition.describeError(failure);
    return { kind: stopOnError ? 'halt' : 'continue', error, flow: stored(host.flow, store, { error }) };
  } finally {
    if (!host.scope) await scope[Symbol.asyncDispose]();
  }
}
