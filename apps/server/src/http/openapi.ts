import { z } from 'zod';
import type { Route } from './route.ts';
import { problemSchema } from './schemas.ts';

type Json = Record<string, unknown>;

/** The JSON Schema of a body or an answer, its named parts put where OpenAPI keeps them. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output', components: Json): Json {
  const {
    $schema: _,
    $defs,
    ...json
  } = z.toJSONSchema(schema, { io, unrepresentable: 'any', target: 'draft-2020-12' }) as Json;
  for (const [name, definition] of Object.entries(($defs ?? {}) as Json))
    components[name] ??= relocate(definition);
  const moved = relocate(json) as Json;
  const { id } = (schema.meta() ?? {}) as { id?: string };
  if (id === undefined) return moved;
  components[id] ??= moved;
  return { $ref: `#/components/schemas/${id}` };
}

function relocate(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(relocate);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'id' || typeof (value as Json).id !== 'string')
      .map(([key, one]) => [
        key,
        key === '$ref' && typeof one === 'string'
          ? one.replace('#/$defs/', '#/components/schemas/')
          : relocate(one),
      ]),
  );
}

function parameters(schema: z.ZodType | undefined, where: 'path' | 'query', components: Json): Json[] {
  if (!schema) return [];
  const { properties = {}, required = [] } = schemaOf(schema, 'input', components) as {
    properties?: Json;
    required?: string[];
  };
  return Object.entries(properties).map(([name, one]) => ({
    name,
    in: where,
    required: where === 'path' || required.includes(name),
    schema: one,
  }));
}

function operation(route: Route, components: Json): Json {
  const { params, query, body, headers = {}, answers, scope } = route;
  const header = Object.entries(headers).map(([name, description]) => ({
    name,
    in: 'header',
    required: false,
    description,
    schema: { type: 'string' },
  }));
  const responses = Object.fromEntries(
    Object.entries(answers).map(([status, { description, schema, contentType = 'application/json' }]) => [
      status,
      {
        description,
        ...(schema && { content: { [contentType]: { schema: schemaOf(schema, 'output', components) } } }),
      },
    ]),
  );
  const problem = { 'application/problem+json': { schema: schemaOf(problemSchema, 'output', components) } };
  return {
    operationId: route.operationId,
    summary: route.summary,
    ...(scope !== undefined && {
      description: `For keys with the scope \`${scope}\`${scope === 'admin' ? '' : ', or `admin`'}.`,
    }),
    tags: [route.tag],
    parameters: [
      ...parameters(params, 'path', components),
      ...parameters(query, 'query', components),
      ...header,
    ],
    ...(body && {
      requestBody: {
        required: true,
        content: { 'application/json': { schema: schemaOf(body, 'input', components) } },
      },
    }),
    responses: { ...responses, default: { description: 'A problem (RFC 9457).', content: problem } },
    security: scope === undefined ? [] : [{ apiKey: [] }],
    ...(scope !== undefined && { 'x-scope': scope }),
  };
}

/** The document of the API (OpenAPI 3.1), made of its routes. */
export function openApiDocument(routes: readonly Route[], version: string): Json {
  const components: Json = {};
  const paths: Record<string, Json> = {};
  for (const one of routes) {
    paths[one.path] ??= {};
    (paths[one.path] as Json)[one.method.toLowerCase()] = operation(one, components);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Flowpost',
      version,
      summary: 'The "send an e-mail" step of a workflow, over HTTP.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: components,
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'A key as printed when it was made.' },
      },
    },
  };
}
