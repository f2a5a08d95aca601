import { z } from 'zod';
import type { FlowpostServer } from '../../parts.ts';
import { scopes } from '../../security/api-keys.ts';
import { httpProblem } from '../problem.ts';
import { route } from '../route.ts';
import { apiKeySchema } from '../schemas.ts';

const common = { tag: 'keys', scope: 'admin' } as const;

/** Who may call this API. */
export const keyRoutes = ({ keys }: Pick<FlowpostServer, 'keys'>) => [
  route({
    ...common,
    method: 'POST',
    path: '/v1/api-keys',
    operationId: 'createApiKey',
    summary: 'Make a key; it is shown this once',
    body: z.strictObject({ name: z.string().min(1).max(100), scopes: z.array(z.enum(scopes)).min(1) }),
    answers: { 201: { description: 'The key.', schema: apiKeySchema.extend({ key: z.string() }) } },
    async handle({ body, reply }) {
      return reply.status(201).send(await keys.create(body.name, body.scopes));
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/api-keys',
    operationId: 'listApiKeys',
    summary: 'Every key that is good, without the key itself',
    answers: { 200: { description: 'The keys.', schema: z.strictObject({ keys: z.array(apiKeySchema) }) } },
    handle: async () => ({ keys: await keys.list() }),
  }),
  route({
    ...common,
    method: 'DELETE',
    path: '/v1/api-keys/{id}',
    operationId: 'revokeApiKey',
    summary: 'Take a key back',
    params: z.strictObject({ id: z.string().min(1).max(64) }),
    answers: { 204: { description: 'It is no longer good; within seconds in other processes.' } },
    async handle({ params, request, reply }) {
      const refuse = (...[status, code, detail, hint]: [number, string, string, string]) =>
        reply
          .status(status)
          .type('application/problem+json')
          .send(httpProblem(status, code, detail, hint, request.id));
      const revoked = await keys.revoke(params.id);
      if (revoked === true) return reply.status(204).send();
      if (revoked === false)
        return refuse(404, 'KEY_NOT_FOUND', 'There is no such key.', 'GET /v1/api-keys lists them.');
      const hint = 'Make another one first: POST /v1/api-keys.';
      return refuse(409, 'KEY_IS_LAST', 'It is the last key with the scope admin.', hint);
    },
  }),
];
