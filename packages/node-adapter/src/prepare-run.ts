import { mailboxKey, parseWith } from '@flowpost/core';
import { mailboxesOf } from '@flowpost/transport';
import type { z } from 'zod';
import { resolveDynamicFields } from './dynamic-fields.ts';
import { withMessageId } from './flow/deliver.ts';
import { type FlowData, mailTrigger } from './flow/flow-data.ts';
import { storeResult } from './flow/result-storage.ts';
import type { FieldKind } from './liquid.ts';
import type { FieldWidget, NodeDefinition, NodeRequest, NodeWarning } from './node.ts';
import { readWritten } from './written-settings.ts';

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

/** What a node would send, worked out and checked, with nothing sent yet. */
export interface PreparedRun {
  readonly request: NodeRequest;
  readonly warnings: readonly NodeWarning[];
  /** The settings with their expressions worked out. */
  readonly settings: unknown;
}

const kindOfWidget: Partial<Record<FieldWidget, FieldKind>> = { html: 'html', addresses: 'addresses' };
/** What fields hold, by the form; a form does not change. */
const kindsByForm = new WeakMap<object, ReadonlyMap<string, FieldKind>>();

function fieldKinds({ sections }: Pick<NodeDefinition, 'sections'>): ReadonlyMap<string, FieldKind> {
  const known = kindsByForm.get(sections);
  if (known) return known;
  const kinds = new Map<string, FieldKind>();
  for (const { name, widget } of sections.flatMap(({ fields }) => fields)) {
    const kind = kindOfWidget[widget];
    if (kind) kinds.set(name, kind);
  }
  kindsByForm.set(sections, kinds);
  return kinds;
}

/**
 * A message that a machine sends because it got one says so (RFC 3834 section 5), unless its author says otherwise: so whoever
 * answers mail by himself does not answer it, such as another flow.
 */
function withAutoSubmitted(request: NodeRequest, flow: FlowData): NodeRequest {
  const { message } = request;
  const trigger = message.autoSubmitted === undefined ? mailTrigger(flow) : undefined;
  if (!trigger) return request;
  const origin = mailboxesOf(trigger);
  const goesBack = [message.to, message.cc, message.bcc]
    .flat()
    .some(({ address }) => origin.has(mailboxKey(address)));
  const autoSubmitted = goesBack || message.inReplyTo !== undefined ? 'auto-replied' : 'auto-generated';
  return { ...request, message: { ...message, autoSubmitted } };
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
  const ofForm = fieldKinds(definition);
  const workOut = <Some>(some: Some): Some =>
    dynamicFields ? (resolveDynamicFields(some, flow, ofForm, names) as Some) : some;
  const html = definition.htmlFields?.(settings, workOut) ?? [];
  const kinds =
    html.length === 0 ? ofForm : new Map([...ofForm, ...html.map((field) => [field, 'html'] as const)]);
  const resolved = dynamicFields ? resolveDynamicFields(settings, flow, kinds, names) : settings;
  const parsed = parseWith(definition.settings, resolved);
  const written = dynamicFields ? readWritten(settings) : { settings, variables: new Map() };
  const asked = withAutoSubmitted(definition.toSendRequest(parsed, written), flow);
  const request = withMessageId(asked, nodeId);
  // Asked first: a key that can hold no result must not be found out after the message has gone.
  if (request.policy.store) storeResult(flow, request.policy.store, {});
  return { request, warnings: definition.warnings?.(parsed) ?? [], settings: resolved };
}
