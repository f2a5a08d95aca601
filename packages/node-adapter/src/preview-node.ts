import { applySandbox, previewMessage } from '@flowpost/transport';
import type { z } from 'zod';
import type { NodeDefinition } from './node.ts';
import { type PrepareOptions, prepareRun } from './prepare-run.ts';

type Preview = ReturnType<typeof previewMessage>;

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
  options: Parameters<typeof previewMessage>[2] = {},
): Preview {
  const { message, connection, policy } = prepareRun(definition, settings, host).request;
  return previewMessage(
    policy.sandbox ? applySandbox(message, policy.sandbox) : message,
    connection,
    options,
  );
}
