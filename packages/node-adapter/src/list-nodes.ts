import { MailError } from '@flowpost/core';
import { z } from 'zod';
import { cognigyNode } from './dialects/cognigy/cognigy.ts';
import { cortexMicrosoft365Node } from './dialects/cortex-m365/cortex-m365.ts';
import { cortexSmtpNode } from './dialects/cortex-smtp/cortex-smtp.ts';
import { diaflowNode } from './dialects/diaflow/diaflow.ts';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import type { NodeDefinition, NodeSection } from './node.ts';

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

interface JsonSchema {
  readonly [keyword: string]: unknown;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly oneOf?: readonly JsonSchema[];
  readonly anyOf?: readonly JsonSchema[];
}

const expression = { type: 'string', pattern: '\\{[{%]', description: 'an expression over the flow' };
const variable = {
  type: 'object',
  properties: { $variable: { type: 'string' } },
  required: ['$variable'],
  additionalProperties: false,
};
const connectionText = { type: 'string', description: 'a URL, or @NAME where the host keeps connections' };

/** An object of a connection need not say of which kind it is: one that is not Microsoft Graph is SMTP. */
const withoutKind = ({ required = [], oneOf, anyOf, ...schema }: JsonSchema): JsonSchema => ({
  ...schema,
  ...(required.length > 0 && { required: required.filter((name) => name !== 'kind') }),
  ...(oneOf && { anyOf: oneOf.map(withoutKind) }),
  ...(anyOf && { anyOf: anyOf.map(withoutKind) }),
});

/** What the settings are when they are worked out, and besides what they are written as: expressions, variables, URLs. */
function asWritten(schema: JsonSchema): JsonSchema {
  const properties = Object.entries(schema.properties ?? {}).map(([name, one]) => {
    const { default: usual, description, ...type } = one;
    const known = name === 'connection' ? [withoutKind(type), connectionText] : [type];
    const about = {
      ...(usual !== undefined && { default: usual }),
      ...(description !== undefined && { description }),
    };
    return [name, { ...about, anyOf: [...known, expression, variable] }] as const;
  });
  return { ...schema, properties: Object.fromEntries(properties) };
}

/** Every node there is. Forms and other platforms' descriptors are built from this. */
export function listNodes(): NodeDescription[] {
  return definitions.map(({ type, title, summary, sections, settings }) => ({
    type,
    title,
    summary,
    sections,
    settingsSchema: asWritten(
      z.toJSONSchema(settings, { io: 'input', unrepresentable: 'any' }) as JsonSchema,
    ),
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
