import type { ConnectionInput } from '@flowpost/core';
import { verifyConnection } from '@flowpost/transport';
import { z } from 'zod';
import type { FlowpostServer } from '../../parts.ts';
import { route } from '../route.ts';
import { connectionBodySchema, connectionSchema, verifySchema } from '../schemas.ts';

const ref = z.strictObject({ id: z.string().min(1).max(64) });
const common = { tag: 'connections', scope: 'admin' } as const;
const one = { 200: { description: 'The connection.', schema: connectionSchema } };

/** Connections: stored with their secrets sealed, used by name, never read back. */
export const connectionRoutes = ({ connections, scope }: Pick<FlowpostServer, 'connections' | 'scope'>) => [
  route({
    ...common,
    method: 'POST',
    path: '/v1/connections',
    operationId: 'createConnection',
    summary: 'Store a connection',
    body: connectionBodySchema,
    answers: { 201: { description: 'The connection, without what is secret.', schema: connectionSchema } },
    async handle({ body, reply }) {
      const created = await connections.create(body.name, body.connection as ConnectionInput);
      return reply.status(201).header('location', `/v1/connections/${created.id}`).send(created);
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/connections',
    operationId: 'listConnections',
    summary: 'Every stored connection',
    answers: {
      200: {
        description: 'The connections.',
        schema: z.strictObject({ connections: z.array(connectionSchema) }),
      },
    },
    handle: async () => ({ connections: await connections.list() }),
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/connections/{id}',
    operationId: 'getConnection',
    summary: 'One connection, by id or name',
    params: ref,
    answers: one,
    handle: ({ params }) => connections.get(params.id),
  }),
  route({
    ...common,
    method: 'PATCH',
    path: '/v1/connections/{id}',
    operationId: 'updateConnection',
    summary: 'Give a connection another name, or replace it; what waits in the outbox uses the new one',
    params: ref,
    body: connectionBodySchema.partial(),
    answers: one,
    handle: ({ params, body }) =>
      connections.update(params.id, {
        name: body.name,
        connection: body.connection as ConnectionInput | undefined,
      }),
  }),
  route({
    ...common,
    method: 'DELETE',
    path: '/v1/connections/{id}',
    operationId: 'deleteConnection',
    summary: 'Forget a connection; what waits in the outbox for it fails',
    params: ref,
    answers: { 204: { description: 'It is gone.' } },
    async handle({ params, reply }) {
      await connections.delete(params.id);
      return reply.status(204).send();
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/v1/connections/{id}/verify',
    operationId: 'verifyConnection',
    summary: 'Walk the way to the server step by step; nothing is sent',
    params: ref,
    answers: { 200: { description: 'What each step found.', schema: verifySchema } },
    async handle({ params }) {
      const { connection } = await connections.open(params.id);
      const { secretBox, auth, lookup } = scope.options;
      return verifyConnection(connection, { secretBox, auth, lookup });
    },
  }),
];
