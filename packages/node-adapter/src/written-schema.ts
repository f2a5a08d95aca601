import { z } from 'zod';
import { numberText, truthNames } from './dialects/fields.ts';

interface JsonSchema {
  readonly [keyword: string]: unknown;
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly format?: string;
  readonly oneOf?: readonly JsonSchema[];
  readonly anyOf?: readonly JsonSchema[];
}

const $defs = {
  expression: { type: 'string', pattern: '\\{[{%]', description: 'an expression over the flow' },
  variable: {
    type: 'object',
    properties: { $variable: { type: 'string' } },
    required: ['$variable'],
    additionalProperties: false,
  },
};
const fromTheFlow = [{ $ref: '#/$defs/expression' }, { $ref: '#/$defs/variable' }];
const leftEmpty = { enum: ['', null] };
const connectionText = { type: 'string', description: 'a URL, or @NAME where the host keeps connections' };

/** An object of a connection need not say of which kind it is: one that is not Microsoft Graph is SMTP. */
const withoutKind = ({ required = [], anyOf, ...schema }: JsonSchema): JsonSchema => ({
  ...schema,
  ...(required.length > 0 && { required: required.filter((name) => name !== 'kind') }),
  ...(anyOf && { anyOf: anyOf.map(withoutKind) }),
});

const inAnyCase = (word: string): string =>
  [...word].map((letter) => `[${letter.toUpperCase()}${letter}]`).join('');
const truthPattern = `^\\s*(?:${truthNames.map(inAnyCase).join('|')})\\s*$`;

/** How forms and the flow hand over a single value, besides as what it is. */
function otherForms({ type, enum: names, const: one, pattern, format }: JsonSchema): JsonSchema[] {
  if (type === 'integer' || type === 'number') return [{ type: 'string', pattern: numberText.source }];
  if (type === 'boolean') return [{ type: 'string', pattern: truthPattern }];
  const isText = type === 'string' && [names, one, pattern, format].every((limit) => limit === undefined);
  return isText ? [{ type: ['number', 'boolean', 'null'] }] : [];
}

/** A setting as one writes it: besides what it is worked out to, an expression, a variable, and what forms make of it. */
function writtenValue(
  schema: JsonSchema,
  { isRequired, forms = otherForms(schema) }: { readonly isRequired: boolean; readonly forms?: JsonSchema[] },
): JsonSchema {
  const { default: usual, description, ...type } = schema;
  return {
    ...(usual !== undefined && { default: usual }),
    ...(description !== undefined && { description }),
    anyOf: [asWritten(type), ...forms, ...(isRequired ? [] : [leftEmpty]), ...fromTheFlow],
  };
}

/** Of those that zod writes, JSON Schema knows these. */
const knownFormats: ReadonlySet<string> = new Set(['date-time', 'email', 'uri', 'uuid']);

function asWritten({
  properties,
  items,
  additionalProperties,
  oneOf,
  anyOf,
  format,
  ...schema
}: JsonSchema): JsonSchema {
  const isRequired = (name: string): boolean => schema.required?.includes(name) === true;
  const written = Object.entries(properties ?? {}).map(
    ([name, one]) => [name, writtenValue(one, { isRequired: isRequired(name) })] as const,
  );
  // With expressions in them several may fit.
  const either = anyOf ?? oneOf;
  return {
    ...schema,
    ...(properties && { properties: Object.fromEntries(written) }),
    ...(items && { items: writtenValue(items, { isRequired: true }) }),
    ...(additionalProperties !== undefined && {
      additionalProperties:
        typeof additionalProperties === 'object'
          ? writtenValue(additionalProperties, {
              isRequired: true,
              forms: (additionalProperties.anyOf ?? [additionalProperties]).flatMap(otherForms),
            })
          : additionalProperties,
    }),
    ...(format !== undefined && knownFormats.has(format) && { format }),
    ...(either && { anyOf: either.map(asWritten) }),
  };
}

/** JSON Schema (draft 2020-12) of settings as one writes them, which is more than what they are worked out to. */
export function writtenSchema(settings: z.ZodType): object {
  const schema = asWritten(z.toJSONSchema(settings, { io: 'input', unrepresentable: 'any' }) as JsonSchema);
  const { connection, ...others } = schema.properties ?? {};
  const [known, ...more] = connection?.anyOf ?? [];
  const anyConnection = known && { ...connection, anyOf: [withoutKind(known), connectionText, ...more] };
  const properties = anyConnection ? { connection: anyConnection, ...others } : others;
  return { ...schema, properties, $defs };
}
