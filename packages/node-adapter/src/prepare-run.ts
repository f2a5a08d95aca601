import { parseWith } from '@flowpost/core';
import type { z } from 'zod';
import { resolveDynamicFields, settingOrigins } from './dynamic-fields.ts';
import { withMessageId } from './flow/deliver.ts';
import type { FlowData } from './flow/flow-data.ts';
import { storeResult } from './flow/result-storage.ts';
import type { NodeDefinition, NodeRequest, NodeWarning } from './node.ts';

/** What a node is run with, before anything is sent. */
export interface PrepareOptions {
  readonly flow: FlowData;
  /** Names the node in its flow, for the duplicate guard. Default its type. */
  readonly nodeId?: string | undefined;
  /**
   * Whether expressions in settings are worked out. Switch it off in a host that has done so: otherwise whoever wrote the
   * values could write expressions. Default true.
   */
  readonly dynamicFields?: boolean | undefined;
  /** Further names for expressions, beside input, context, variables and trigger. */
  readonly names?: Readonly<Record<string, unknown>> | undefined;
}

export interface PreparedRun {
  readonly request: NodeRequest;
  readonly warnings: readonly NodeWarning[];
}

/** Fields whose text is HTML, by the form; a form does not change. */
const htmlFields = new WeakMap<object, ReadonlySet<string>>();

function htmlFieldsOf({ sections }: Pick<NodeDefinition, 'sections'>): ReadonlySet<string> {
  const known = htmlFields.get(sections);
  if (known) return known;
  const fields = sections.flatMap((section) => section.fields.filter(({ widget }) => widget === 'html'));
  const names = new Set(fields.map(({ name }) => name));
  htmlFields.set(sections, names);
  return names;
}

/**
 * The request a node's settings make of the flow's data.
 *
 * @throws MailError of category `input` or `configuration`, in phase `validate`.
 */
export function prepareRun<Settings extends z.ZodType>(
  definition: NodeDefinition<Settings>,
  settings: unknown,
  { flow, nodeId = definition.type, dynamicFields = true, names }: PrepareOptions,
): PreparedRun {
  const resolved = dynamicFields
    ? resolveDynamicFields(settings, flow, htmlFieldsOf(definition), names)
    : settings;
  const parsed = parseWith(definition.settings, resolved);
  const origins = settingOrigins(dynamicFields ? settings : undefined);
  const request = withMessageId(definition.toSendRequest(parsed, flow, origins), nodeId);
  // Asked first: a key that can hold no result must not be found out after the message has gone.
  if (request.policy.store) storeResult(flow, request.policy.store, {});
  return { request, warnings: definition.warnings?.(parsed) ?? [] };
}
