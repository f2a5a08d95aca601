import { MailError } from '@flowpost/core';
import { cognigyNode } from './dialects/cognigy/cognigy.ts';
import { cortexMicrosoft365Node } from './dialects/cortex-m365/cortex-m365.ts';
import { cortexSmtpNode } from './dialects/cortex-smtp/cortex-smtp.ts';
import { diaflowNode } from './dialects/diaflow/diaflow.ts';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import type { NodeDefinition, NodeSection } from './node.ts';
import { writtenSchema } from './written-schema.ts';

const definitions: readonly NodeDefinition[] = [
  sendEmailNode,
  cognigyNode,
  cortexSmtpNode,
  cortexMicrosoft365Node,
  diaflowNode,
];

/** A node as hosts describe it to people and other programs. */
export interface NodeDescription {
  readonly type: string;
  readonly title: string;
  readonly summary: string;
  readonly sections: readonly NodeSection[];
  /** JSON Schema (draft 2020-12) of the settings, as one writes them. */
  readonly settingsSchema: object;
}

/** Every node there is. Forms and other platforms' descriptors are built from this. */
export function listNodes(): NodeDescription[] {
  return definitions.map(({ type, title, summary, sections, settings }) => ({
    type,
    title,
    summary,
    sections,
    settingsSchema: writtenSchema(settings),
  }));
}

/** @throws MailError `NODE_TYPE_UNKNOWN`, listing the known ones. */
export function findNode(type: string): NodeDefinition {
  const found = definitions.find((definition) => definition.type === type);
  if (found) return found;
  throw new MailError('NODE_TYPE_UNKNOWN', `There is no node of type ${JSON.stringify(type)}.`, {
    details: { type, known: definitions.map((definition) => definition.type) },
  });
}
