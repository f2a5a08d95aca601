import { type SendReceipt, toMailError } from '@flowpost/core';
import { cognigyNode, type NodeError, parseFlowData, runNode } from '@flowpost/node-adapter';
import { connectionKeys, form, keyOf } from './form.ts';
import type { NodeCall, NodeDescriptor } from './platform.ts';

/** Cognigy ends an execution after 20 seconds. Before that the flow is told how it ended. */
const timeLimitMs = 17_000;
/** Cognigy takes 62 KB at once. */
const mostBytes = 60_000;

const names = cognigyNode.sections.flatMap(({ fields }) => fields.map(({ name }) => name));

/** The settings of the node out of the flat values of the form. */
function settingsOf(config: NodeCall['config']): Record<string, unknown> {
  const settings: Record<string, Record<string, unknown> | unknown> = {};
  for (const name of names) {
    const value = config[keyOf(name)];
    if (value === undefined) continue;
    const [first = '', second] = name.split('.');
    if (second === undefined) settings[first] = value;
    else settings[first] = { ...(settings[first] as object | undefined), [second]: value };
  }
  const type = String(config[keyOf('authentication.type')]);
  const connection = config[connectionKeys[type] ?? ''];
  settings.authentication =
    typeof connection === 'object' && connection !== null ? { ...connection, type } : undefined;
  return settings;
}

/** The result, or the beginning of it where it would be more than Cognigy takes. */
function asMuchAsFits(result: SendReceipt | { readonly error: NodeError }): unknown {
  if (Buffer.byteLength(JSON.stringify(result)) <= mostBytes) return result;
  if ('error' in result) return { error: { ...result.error, details: undefined } };
  const { accepted, rejected, ...rest } = result;
  const some = { ...rest, acceptedCount: accepted.length, rejectedCount: rejected.length };
  return { ...some, rejected: rejected.slice(0, 50) };
}

async function send({ cognigy, config, childConfigs = [], nodeId }: NodeCall): Promise<void> {
  const { api, input, context } = cognigy;
  let error: NodeError | undefined;
  let result: SendReceipt | { readonly error: NodeError };
  let halts = config.stopOnError === true;
  try {
    const outcome = await runNode(cognigyNode, settingsOf(config), {
      flow: parseFlowData({ input, context }),
      // Cognigy has worked out the expressions: whoever wrote the values must not write any.
      dynamicFields: false,
      nodeId,
      signal: AbortSignal.timeout(timeLimitMs),
    });
    error = 'error' in outcome ? outcome.error : undefined;
    result = 'error' in outcome ? { error: outcome.error } : outcome.receipt;
    halts = outcome.kind === 'halt';
  } catch (thrown) {
    error = toMailError(thrown).toJSON();
    result = { error };
  }
  if (error) api.log('error', `${error.code}: ${error.message} ${error.hint}`);
  const { storeResult, inputKey, contextKey } = config;
  if (storeResult === 'input') api.addToInput(String(inputKey), asMuchAsFits(result));
  if (storeResult === 'context') api.addToContext(String(contextKey), asMuchAsFits(result), 'simple');
  const next = childConfigs.find(({ type }) => type === (error ? failed.type : sent.type));
  if (error && halts) throw new Error(`${error.code}: ${error.message} ${error.hint}`);
  if (next) api.setNextNode(next.id);
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
