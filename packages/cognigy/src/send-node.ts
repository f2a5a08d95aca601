import { adviceOf, type SendReceipt, toMailError } from '@flowpost/core';
import {
  cognigyNode,
  createFlowScope,
  type FlowData,
  type NodeError,
  type NodeOutcome,
  parseFlowData,
  runNode,
} from '@flowpost/node-adapter';
import { form } from './form.ts';
import type { NodeCall, NodeDescriptor } from './platform.ts';
import { settingsOf } from './settings-of.ts';

/** Cognigy ends an execution after 20 seconds, loading included. Before that the flow is told how it ended. */
const timeLimitMs = 15_000;
/** Cognigy takes 62 KB at once, and has 64,000 bytes for all of a context, two for each character. */
const mostCharacters = 8_000;
const longestText = 500;

type Result = SendReceipt | { readonly error: NodeError };

const fits = (result: object): boolean => JSON.stringify(result).length <= mostCharacters;

/** The beginnings of lists and texts, wherever they stand in a value. */
function begun(value: unknown, most: number): unknown {
  if (typeof value === 'string') return value.slice(0, longestText);
  if (Array.isArray(value)) return value.slice(0, most).map((one) => begun(one, most));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, begun(one, most)]));
}

/** The result, or the beginnings of its lists and texts where it would be more than there is room for. */
function asMuchAsFits(result: Result): object {
  if (fits(result)) return result;
  const counts =
    'error' in result ? {} : { acceptedCount: result.accepted.length, rejectedCount: result.rejected.length };
  for (let most = 50; ; most = Math.floor(most / 2)) {
    const some = { ...(begun(result, most) as object), ...counts };
    if (most === 0 || fits(some)) return some;
  }
}

/** What cannot be told to Cognigy changes nothing about the message: the rest is done all the same. */
function tell(api: NodeCall['cognigy']['api'], say: () => void): void {
  try {
    say();
  } catch (error) {
    try {
      api.log('error', `The outcome of a message could not be handed over: ${toMailError(error).message}`);
    } catch {
      // Nothing can be said at all.
    }
  }
}

/** Stores the result where the settings want it, if it has a place there. */
function store(
  { cognigy: { api }, config }: NodeCall,
  result: Result,
  { before, after }: { readonly before: FlowData; readonly after: FlowData },
): void {
  if (after.input !== before.input) api.addToInput(String(config.inputKey), asMuchAsFits(result));
  if (after.context !== before.context)
    api.addToContext(String(config.contextKey), asMuchAsFits(result), 'simple');
}

async function send(call: NodeCall): Promise<void> {
  const { cognigy, config, childConfigs = [], nodeId } = call;
  const { api, input, context } = cognigy;
  // Nothing goes on after it: a token that is not there by then is no use.
  const scope = createFlowScope({ closeDeadlineMs: 1_000, auth: { deadlineMs: timeLimitMs } });
  try {
    const flow = parseFlowData({ input, context });
    const outcome: NodeOutcome = await runNode(cognigyNode, settingsOf(config), {
      flow,
      // Cognigy has worked out the expressions: whoever wrote the values must not write any.
      dynamicFields: false,
      nodeId,
      scope,
      signal: AbortSignal.timeout(timeLimitMs),
    });
    const error = 'error' in outcome ? outcome.error : undefined;
    const text = error && `${error.code}: ${adviceOf(error)}`.slice(0, 4 * longestText);
    if (text !== undefined) tell(api, () => api.log('error', text));
    for (const { message } of outcome.warnings ?? []) tell(api, () => api.log('warn', message));
    const result = 'error' in outcome ? { error: outcome.error } : outcome.receipt;
    tell(api, () => store(call, result, { before: flow, after: outcome.flow }));
    if (text !== undefined && outcome.kind === 'halt') {
      // Whether an exception ends a flow is said nowhere, so it is told to.
      tell(api, () => api.resetNextNodes?.());
      tell(api, () => api.stopExecution?.());
      throw new Error(text);
    }
    const next = childConfigs.find(({ type }) => type === (error ? failed.type : sent.type));
    if (next) tell(api, () => api.setNextNode(next.id));
  } finally {
    await scope[Symbol.asyncDispose]();
  }
}

const appearance = { color: '#1e5aa0', textColor: 'white' };
const child = (type: string, defaultLabel: string): NodeDescriptor => ({
  ...{ type, parentType: 'flowpostSendEmail', defaultLabel },
  appearance: { ...appearance, variant: 'mini' },
  constraints: {
    ...{ editable: false, deletable: false, creatable: false, movable: false },
    placement: { predecessor: { whitelist: [] } },
  },
});
const sent = child('flowpostSent', 'On Sent');
const failed = child('flowpostFailed', 'On Failed');

/** The node, and its two branches. */
export const nodes: readonly NodeDescriptor[] = [
  {
    type: 'flowpostSendEmail',
    defaultLabel: 'Send Email (Flowpost)',
    summary: cognigyNode.summary,
    ...form,
    appearance,
    dependencies: { children: [sent.type, failed.type] },
    preview: { type: 'text', key: 'to' },
    function: send,
  },
  sent,
  failed,
];
