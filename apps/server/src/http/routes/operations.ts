import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { FlowpostServer } from '../../parts.ts';
import { type Route, route } from '../route.ts';

const status = z.strictObject({ status: z.string() });
/** For whoever runs the server: is it alive, is it ready, what is going on. */
export const operationRoutes = (
  server: Pick<FlowpostServer, 'closing' | 'connections' | 'database' | 'deliveries' | 'metrics'>,
  document: () => object,
): Route[] => [
  route({
    method: 'GET',
    path: '/healthz',
    operationId: 'health',
    summary: 'Whether the process is alive',
    tag: 'operations',
    answers: { 200: { description: 'It is.', schema: status } },
    handle: () => ({ status: 'ok' }),
  }),
  route({
    method: 'GET',
    path: '/readyz',
    operationId: 'readiness',
    summary: 'Whether it can take deliveries: the database answers, and it is not shutting down',
    tag: 'operations',
    answers: {
      200: { description: 'It can.', schema: status },
      503: { description: 'It cannot.', schema: status },
    },
    async handle({ reply }) {
      const answers = await Promise.race([
        server.database.query('select 1').then(
          () => true,
          () => false,
        ),
        delay(3_000, false, { ref: false }),
      ]);
      if (answers && !server.closing.aborted) return { status: 'ready' };
      return reply.status(503).send({ status: server.closing.aborted ? 'shutting down' : 'no database' });
    },
  }),
  route({
    method: 'GET',
    path: '/metrics',
    operationId: 'metrics',
    summary: 'Metrics as Prometheus reads them',
    tag: 'operations',
    answers: { 200: { description: 'The metrics.', schema: z.string(), contentType: 'text/plain' } },
    async handle({ reply }) {
      server.metrics.depth(await server.deliveries.depth().catch(() => []));
      server.metrics.expiry(await server.connections.list().catch(() => []));
      return reply.type(server.metrics.contentType).send(await server.metrics.text());
    },
  }),
  route({
    method: 'GET',
    path: '/openapi.json',
    operationId: 'openapi',
    summary: 'This document',
    tag: 'operations',
    answers: { 200: { description: 'OpenAPI 3.1.', schema: z.looseObject({ openapi: z.string() }) } },
    handle: () => document(),
  }),
];
