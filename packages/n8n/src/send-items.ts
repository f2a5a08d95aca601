import { linkAbort, toMailError } from '@flowpost/core';
import { createFlowScope, parseFlowData, runNode, sendEmailNode } from '@flowpost/node-adapter';
import type { IExecuteFunctions } from 'n8n-workflow';
import { type ItemOutcome, keepTry, takeEarlierTry } from './earlier-try.ts';
import { itemSettings } from './item-settings.ts';
import { mailTriggersBefore, triggerOf } from './mail-trigger.ts';

/** Items under way at once. How many sessions they share, the connection says. */
const mostAtOnce = 20;
/** A message that may be leaving when an execution is stopped is not waited for longer than this, in milliseconds. */
const leavingMs = 10_000;

/** Sessions and tokens outlive an execution: n8n has no way to say that a node is not needed any more, and idle ones end by themselves. */
const scope = createFlowScope();

/** Sends all items of an execution, and says what became of each. Without "On Error: Continue" the first failure is the last that is begun. */
export async function sendItems(context: IExecuteFunctions): Promise<ReadonlyMap<number, ItemOutcome>> {
  const outcomes = new Map(takeEarlierTry(context));
  const waiting = [...context.getInputData().keys()].filter((index) => !outcomes.has(index));
  const triggers = mailTriggersBefore(context);
  const { id, name } = context.getNode();
  const signal = context.getExecutionCancelSignal();
  const leaving = new AbortController();
  const unlink = linkAbort(signal, leaving, leavingMs);
  const goesOn = context.continueOnFail();
  let hasFailed = false;

  async function sendItem(index: number): Promise<ItemOutcome> {
    try {
      const flow = parseFlowData({ trigger: triggerOf(context, index, triggers) });
      const host = {
        scope,
        signal,
        leavingSignal: leaving.signal,
        nodeId: `${context.getWorkflow().id} ${id || name}`,
      };
      // n8n has worked out the expressions: whoever wrote the values must not write any.
      const outcome = await runNode(sendEmailNode, await itemSettings(context, index), {
        ...{ ...host, flow, dynamicFields: false },
      });
      for (const { message } of outcome.warnings ?? []) context.logger.warn(message, { node: name });
      return 'error' in outcome ? { error: outcome.error } : { receipt: outcome.receipt };
    } catch (thrown) {
      return { error: toMailError(thrown).toJSON() };
    }
  }
  async function work(): Promise<void> {
    for (let index = waiting.shift(); index !== undefined; index = waiting.shift()) {
      if (signal?.aborted || (hasFailed && !goesOn)) return;
      const outcome = await sendItem(index);
      hasFailed ||= 'error' in outcome;
      outcomes.set(index, outcome);
    }
  }

  try {
    await Promise.all(Array.from({ length: mostAtOnce }, work));
  } finally {
    unlink();
  }
  keepTry(context, outcomes);
  return outcomes;
}
