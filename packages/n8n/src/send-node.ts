import { adviceOf, toMailError } from '@flowpost/core';
import { connectionOfForm, type NodeError, sendEmailNode } from '@flowpost/node-adapter';
import { verifyConnection } from '@flowpost/transport';
import {
  type ICredentialsDecrypted,
  type IDataObject,
  type IExecuteFunctions,
  type INode,
  type INodeCredentialTestResult,
  type INodeExecutionData,
  type INodeType,
  type INodeTypeDescription,
  NodeOperationError,
} from 'n8n-workflow';
import type { ItemOutcome } from './earlier-try.ts';
import { properties } from './form.ts';
import { mailServer } from './mail-server.ts';
import { sendItems } from './send-items.ts';

/** One item of the output. An `error` of n8n's own in it would cost the flow everything but the message. */
function outputOf([index, outcome]: readonly [number, ItemOutcome]): INodeExecutionData {
  const json =
    'error' in outcome ? { error: adviceOf(outcome.error), details: outcome.error } : outcome.receipt;
  return { json: json as unknown as IDataObject, pairedItem: { item: index } };
}

/** The failure of an item, with what became of the others. */
function failureOf(
  node: INode,
  [index, error]: readonly [number, NodeError],
  sent: number,
  all: number,
): NodeOperationError {
  const { code, message, hint } = error;
  const others = all > 1 ? ` Of ${all} items, ${sent} were sent.` : '';
  const failure = new NodeOperationError(node, message, {
    ...{ itemIndex: index, description: `${hint}${others} (${code})` },
  });
  // n8n has words of its own for messages in which it finds some of Node.js.
  failure.message = message;
  failure.context.data = error as unknown as IDataObject;
  return failure;
}

/** What n8n shows below a credential after a test of it. Sends nothing. */
async function testMailServer(credential: ICredentialsDecrypted): Promise<INodeCredentialTestResult> {
  try {
    const { steps } = await verifyConnection(connectionOfForm(credential.data ?? {}));
    const failed = steps.find(({ status }) => status === 'failed');
    if (failed) return { status: 'Error', message: adviceOf({ hint: '', ...failed }).trim() };
    return { status: 'OK', message: 'The server would take mail. Nothing was sent.' };
  } catch (thrown) {
    return { status: 'Error', message: adviceOf(toMailError(thrown)) };
  }
}

/** The node for n8n: an e-mail for each item, which goes on as the receipt. */
export class FlowpostSendEmail implements INodeType {
  readonly description: INodeTypeDescription = {
    displayName: 'Send Email (Flowpost)',
    name: 'flowpostSendEmail',
    icon: 'file:flowpost.svg',
    group: ['output'],
    version: 1,
    subtitle: '={{ $parameter["to"] }}',
    description: sendEmailNode.summary,
    defaults: { name: 'Send Email' },
    inputs: ['main'],
    outputs: ['main'],
    credentials: [{ name: mailServer, required: true, testedBy: 'testMailServer' }],
    properties,
  };

  readonly methods = { credentialTest: { testMailServer } };

  /** Called by n8n, once for all items of a run. */
  async execute(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
    const outcomes = [...(await sendItems(this))].sort(([one], [other]) => one - other);
    const failed = outcomes.flatMap(([index, outcome]) =>
      'error' in outcome ? [[index, outcome.error] as const] : [],
    );
    // When an execution is stopped, nothing runs after this node, and its output shows what was sent.
    const isStopped = this.getExecutionCancelSignal()?.aborted === true;
    if (failed[0] && !this.continueOnFail() && !isStopped) {
      const sent = outcomes.length - failed.length;
      throw failureOf(this.getNode(), failed[0], sent, this.getInputData().length);
    }
    return [outcomes.map(outputOf)];
  }
}
