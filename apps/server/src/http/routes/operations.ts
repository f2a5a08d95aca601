import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { FlowpostServer } from '../../server.ts';
import { type Route, route } from '../route.ts';

const text = (description: string, contentType: string) => ({
  200: { description, schema: z.string(), contentType },
});
const status = z.strictObject({ status: z.string() });
const eventsQuery = z.strictObject({
  /** The id of the last event one has; default those from now on. */
  after: z
    .string()
    .regex(/^\d{1,18}$/)
    .optional(),
});
const pollMs = 500;

/** For whoever runs the server: is it alive, is it ready, what is going on. */
export const operationRoutes = (
  server: Pick<FlowpostServer, 'database' | 'deliveries' | 'metrics' | 'closing'>,
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
    answers: text('The metrics.', 'text/plain'),
    async handle({ reply }) {
      server.metrics.depth(await server.deliveries.depth().catch(() => []));
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
  route({
    method: 'GET',
    path: '/v1/events',
    operationId: 'events',
    summary: 'Changes of deliveries as they happen, as server-sent events',
    tag: 'deliveries',
    scope: 'send',
    query: eventsQuery,
    answers: text('`id`, and `data` with delivery, state and time.', 'text/event-stream'),
    async handle({ query, request, reply }) {
      const { database, closing } = server;
      const [newest] = await database.query<{ seq: string }>(
        'select coalesce(max(seq), 0)::text as seq from flowpost.delivery_events where seq > $1',
        [0],
      );
      const resumed = request.headers['last-event-id'];
      let after =
        query.after ??
        (typeof resumed === 'string' && /^\d{1,18}$/.test(resumed) ? resumed : (newest?.seq ?? '0'));
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-request-id': request.id,
      });
      raw.write(': connected\n\n');
      const gone = new AbortController();
      raw.once('close', () => gone.abort());
      const signal = AbortSignal.any([gone.signal, closing]);
      while (!signal.aborted) {
        const events = await database
          .query<{ seq: string; delivery_id: string; state: string; at: Date; detail: unknown }>(
            'select seq::text as seq, delivery_id, state, at, detail from flowpost.delivery_events where seq > $1::bigint order by seq limit 500',
            [after],
          )
          .catch(() => []);
        for (const { seq, delivery_id: delivery, state, at, detail } of events) {
          raw.write(
            `id: ${seq}\nevent: delivery\ndata: ${JSON.stringify({ delivery, state, at, detail })}\n\n`,
          );
          after = seq;
        }
        // A comment now and then tells proxies and dead clients apart.
        if (events.length === 0) raw.write(':\n\n');
        await delay(pollMs, undefined, { signal }).catch(() => undefined);
      }
      raw.end();
    },
  }),
];
