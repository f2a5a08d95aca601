import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { FlowpostServer } from '../../parts.ts';
import { recently } from '../../recently.ts';
import { type Route, route } from '../route.ts';

const status = z.strictObject({ status: z.string() });
/** Longer than a database that is there takes, and not so long that whoever asks has given up, in milliseconds. */
const answerMs = 3_000;

/** How long what metrics say of the database is good: it counts everything that has not ended. In milliseconds. */
const countedMs = 5_000;

/** What the database says; undefined when it does not say it in time. */
async function inTime<Row>(rows: Promise<readonly Row[]>): Promise<readonly Row[] | undefined> {
  return Promise.race([rows.catch(() => undefined), delay(answerMs, undefined, { ref: false })]);
}

/** Whether something can be put into the outbox. */
async function stateOf({ database, deliveries }: Pick<FlowpostServer, 'database' | 'deliveries'>) {
  if (!deliveries.hasRoom) return 'no room on the disk';
  const setting = 'select current_setting($1) as value';
  const [readOnly] =
    (await inTime(database.query<{ value: string }>(setting, ['transaction_read_only']))) ?? [];
  if (!readOnly) return 'no database';
  return readOnly.value === 'off' ? 'ready' : 'the database is read-only';
}

/** For whoever runs the server: is it alive, is it ready, what is going on. */
export const operationRoutes = (
  server: Pick<FlowpostServer, 'leaving' | 'connections' | 'database' | 'deliveries' | 'metrics'>,
  document: () => object,
): Route[] => {
  const depthOf = recently(() => server.deliveries.depth(), countedMs);
  const connectionsOf = recently(() => server.connections.list(), 0);
  return [
    route({
      method: 'GET',
      path: '/healthz',
      isProbe: true,
      operationId: 'health',
      summary: 'Whether the process is alive',
      tag: 'operations',
      answers: { 200: { description: 'It is.', schema: status } },
      handle: () => ({ status: 'ok' }),
    }),
    route({
      method: 'GET',
      path: '/readyz',
      isProbe: true,
      operationId: 'readiness',
      summary:
        'Whether it can take deliveries: the database answers and may be written to, there is room, and it is not shutting down',
      tag: 'operations',
      answers: {
        200: { description: 'It can.', schema: status },
        503: { description: 'It cannot.', schema: status },
      },
      async handle({ reply }) {
        const state = server.leaving.aborted ? 'shutting down' : await stateOf(server);
        return state === 'ready' ? { status: state } : reply.status(503).send({ status: state });
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
        const [depth, connections] = await Promise.all([inTime(depthOf()), inTime(connectionsOf())]);
        server.metrics.database(depth !== undefined);
        server.metrics.depth(depth ?? []);
        server.metrics.expiry(connections ?? []);
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
};
