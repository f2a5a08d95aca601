import { type MailErrorJson, type SendReceipt, toMailError } from '@flowpost/core';
import {
  type NodeError,
  type NodeOutcome,
  parseFlowData,
  runNode,
  sendEmailNode,
} from '@flowpost/node-adapter';
import type { ConnectionNode } from './connection-node.ts';
import type { FlowMessage, NodeProperties, Runtime, RuntimeNode } from './runtime.ts';
import { triggerOf, writtenSettings } from './send-fields.ts';

export const sendType = 'flowpost-send';

/** What a Catch node gets: the message for people, and under `code` and its like what a flow can go by. */
function failureOf({ message, hint, ...known }: MailErrorJson): Error {
  return Object.assign(new Error(`${message} ${hint}`), { ...known, hint });
}

/** What became of one message, in the words of the flow: what it sent, or why it did not. */
type Outcome = Pick<NodeOutcome, 'kind'> &
  ({ readonly receipt: SendReceipt } | { readonly error: NodeError });

function show(node: RuntimeNode, outcome: Outcome): void {
  if ('error' in outcome) {
    const { code, inDoubt } = outcome.error;
    node.status({ fill: 'red', shape: inDoubt ? 'ring' : 'dot', text: inDoubt ? `in doubt: ${code}` : code });
    return;
  }
  const { status } = outcome.receipt;
  node.status({ fill: status === 'partial' ? 'yellow' : 'green', shape: 'dot', text: status });
}

/** Sends for one message of the flow. Does not throw: Node-RED ends as a whole for a promise that is refused. */
async function sendFor(
  runtime: Runtime,
  node: RuntimeNode,
  properties: NodeProperties,
  message: FlowMessage,
): Promise<Outcome> {
  try {
    const connection = runtime.nodes.getNode(String(properties.connection)) as ConnectionNode | null;
    const { settings, variables } = await writtenSettings(runtime, node, properties, message);
    const flow = parseFlowData({
      input: message,
      variables: { ...variables, ...(connection && { connection: connection.connection() }) },
      trigger: triggerOf(message),
    });
    return await runNode(
      sendEmailNode,
      { ...settings, ...(connection && { connection: { $variable: 'connection' } }) },
      { flow, nodeId: node.id, names: { msg: message }, ...(connection && { scope: connection.scope }) },
    );
  } catch (thrown) {
    const kind = properties.stopOnError === false ? 'continue' : 'halt';
    return { kind, error: toMailError(thrown).toJSON() };
  }
}

export function registerSend(runtime: Runtime): void {
  function SendEmail(this: RuntimeNode, properties: NodeProperties): void {
    runtime.nodes.createNode(this, properties);
    let underWay = 0;
    this.on('input', (message, send, done) => {
      this.status({ fill: 'blue', shape: 'dot', text: `sending ${++underWay}` });
      void sendFor(runtime, this, properties, message).then((outcome) => {
        underWay--;
        show(this, outcome);
        message.email = 'error' in outcome ? { error: outcome.error } : outcome.receipt;
        if (outcome.kind === 'halt' && 'error' in outcome) return done(failureOf(outcome.error));
        send(message);
        done();
      });
    });
    this.on('close', (_removed, done) => {
      this.status({});
      done();
    });
  }
  runtime.nodes.registerType(sendType, SendEmail);
}
