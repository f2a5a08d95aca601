import { adviceOf, type MailErrorJson, type SendReceipt, toMailError } from '@flowpost/core';
import {
  type NodeError,
  type NodeOutcome,
  parseFlowData,
  runNode,
  sendEmailNode,
} from '@flowpost/node-adapter';
import type { ConnectionNode } from './connection-node.ts';
import type { Done, FlowMessage, NodeProperties, Runtime, RuntimeNode, Send } from './runtime.ts';
import { triggerOf, writtenSettings } from './send-fields.ts';

export const sendType = 'flowpost-send';

/** What a Catch node gets: the message for people, and under `code` and its like what a flow can go by. */
function failureOf(error: MailErrorJson): Error {
  const { message: _, ...known } = error;
  return Object.assign(new Error(adviceOf(error)), known);
}

/** What became of one message, in the words of the flow: what it sent, or why it did not. */
type Outcome = Pick<NodeOutcome, 'kind'> &
  ({ readonly receipt: SendReceipt } | { readonly error: NodeError });

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
    const flow = parseFlowData({ input: { ...message }, variables, trigger: triggerOf(message) });
    return await runNode(
      sendEmailNode,
      // Not among the variables, where expressions would find it.
      { ...settings, ...(connection && { connection: connection.connection() }) },
      { flow, nodeId: node.id, names: { msg: message }, ...(connection && { scope: connection.scope }) },
    );
  } catch (thrown) {
    const { stopOnError = true } =
      sendEmailNode.failurePolicy?.of({ stopOnError: properties.stopOnError }) ?? {};
    const kind = stopOnError ? 'halt' : 'continue';
    return { kind, error: toMailError(thrown).toJSON() };
  }
}

/** The message with the outcome; another one where it does not take that. */
function withOutcome(message: FlowMessage, outcome: Outcome): FlowMessage {
  const email = 'error' in outcome ? { error: outcome.error } : outcome.receipt;
  try {
    message.email = email;
    return message;
  } catch {
    return { ...message, email };
  }
}

/** What there is to say of a message whose flow is not there any more. */
function lastWords({ _msgid }: FlowMessage, outcome: Outcome): string {
  const [what, to] =
    'error' in outcome
      ? [outcome.error.inDoubt ? `in doubt (${outcome.error.code})` : `not sent (${outcome.error.code})`, '']
      : [outcome.receipt.status, ` to ${outcome.receipt.accepted.join(', ')}`];
  return `message ${String(_msgid)} ended after its flow was stopped: ${what}${to}`;
}

export function registerSend(runtime: Runtime): void {
  function SendEmail(this: RuntimeNode, properties: NodeProperties): void {
    runtime.nodes.createNode(this, properties);
    let underWay = 0;
    let isClosed = false;
    const show = (outcome?: Outcome): void => {
      if (outcome && 'error' in outcome) {
        const { code, inDoubt } = outcome.error;
        const text = inDoubt ? `in doubt: ${code}` : code;
        this.status({ fill: 'red', shape: inDoubt ? 'ring' : 'dot', text });
      } else if (underWay > 0) this.status({ fill: 'blue', shape: 'dot', text: `sending ${underWay}` });
      else if (outcome) {
        const { status } = outcome.receipt;
        this.status({ fill: status === 'partial' ? 'yellow' : 'green', shape: 'dot', text: status });
      }
    };
    const end = (message: FlowMessage, outcome: Outcome, send: Send, done: Done): void => {
      underWay--;
      if (isClosed) this.log(lastWords(message, outcome));
      else show(outcome);
      const next = withOutcome(message, outcome);
      if (outcome.kind === 'halt' && 'error' in outcome) done(failureOf(outcome.error));
      else {
        send(next);
        done();
      }
    };
    this.on('input', (message, send, done) => {
      underWay++;
      show();
      sendFor(runtime, this, properties, message)
        .then((outcome) => end(message, outcome, send, done))
        // Node-RED ends as a whole for a promise that is refused.
        .catch((error) => done(error));
    });
    this.on('close', (_removed, done) => {
      isClosed = true;
      this.status({});
      done();
    });
  }
  runtime.nodes.registerType(sendType, SendEmail);
}
