import { previewMessage } from '@flowpost/transport';
import type { z } from 'zod';
import type { FlowData } from './flow/flow-data.ts';
import type { NodeDefinition } from './node.ts';
import { prepareRun } from './prepare-run.ts';

type Preview = ReturnType<typeof previewMessage>;

/**
 * The message a run of the node would send, byte for byte, without sending it.
 *
 * @throws MailError as the run's outcome would carry it.
 */
export async function previewNode<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  flow: FlowData,
  options: Parameters<typeof previewMessage>[2] = {},
): Preview {
  const { request } = prepareRun(definition, settings, { flow });
  return previewMessage(request.message, request.connection, options);
}
