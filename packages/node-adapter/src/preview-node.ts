import type { Sandbox } from '@flowpost/core';
import { applySandbox, assertNoLoop, previewMessage } from '@flowpost/transport';
import type { z } from 'zod';
import { type FlowData, mailTrigger } from './flow/flow-data.ts';
import type { NodeDefinition, NodeRequest } from './node.ts';
import { type PrepareOptions, prepareRun } from './prepare-run.ts';

type PreviewOptions = Parameters<typeof previewMessage>[2] & {
  /** Whose trigger the loop guard heeds, where the request wants one. */
  readonly flow?: FlowData | undefined;
  /** That of the host, which counts more than one in the request. */
  readonly sandbox?: Sandbox | undefined;
};
type Preview = ReturnType<typeof previewMessage>;

/**
 * The message a request would send, without sending it; where it names a sandbox, as that lets it out.
 *
 * @throws MailError as sending it would.
 */
export async function previewRequest(
  { message, connection, policy }: Pick<NodeRequest, 'message' | 'connection' | 'policy'>,
  { flow, sandbox = policy.sandbox, ...options }: PreviewOptions = {},
): Preview {
  const trigger = policy.loopGuard && flow ? mailTrigger(flow) : undefined;
  if (trigger) assertNoLoop(message, trigger);
  const sent = sandbox ? applySandbox(message, sandbox) : message;
  if (trigger) assertNoLoop(sent, trigger);
  return previewMessage(sent, connection, options);
}

/**
 * The message a run of the node would send with the same host, byte for byte, without sending it; where the settings name a
 * sandbox, as that lets it out.
 *
 * @throws MailError as the run's outcome would carry it.
 */
export async function previewNode<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  host: PrepareOptions,
  options: PreviewOptions = {},
): Preview {
  return previewRequest(prepareRun(definition, settings, host).request, { ...options, flow: host.flow });
}
