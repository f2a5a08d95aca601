import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { MailError } from '@flowpost/core';
import { z } from 'zod';
import type { Queryable } from '../../database/database.ts';
import type { FlowpostServer } from '../../server.ts';
import { type Route, route } from '../route.ts';

const text = (description: string, contentType: string) => ({
  200: { description, schema: z.string(), contentType },
});
const status = z.strictObject({ status: z.string() });
/** Where one stands among the events: the transaction, and the place in it. */
const cursorPattern = /^\d{1,19}\.\d{1,18}$/;
const eventsQuery = z.strictObject({
  /** The id of the last event one has; default those from now on. */
  after: z.string().regex(cursorPattern).optional(),
});
/** How often it is asked whether a listener's key is still good, in milliseconds. */
const askKeyMs = 2_000;
const pollMs = 500;
/** How many are sent at once. */
const mostEvents = 500;

/**
 * Where one stands. The event one has may have another place since, when the data was moved into another database cluster; see
 * `rebaseEvents`.
 */
async function placeOf(database: Queryable, cursor: string): Promise<string> {
  const [xid = '0', seq = '0'] = cursor.split('.');
  const [state] = await database.query<{ same: boolean; moves: boolean; ahead: boolean }>(
    `select exists (select 1 from flowpost.delivery_events where xid = $1::xid8 and seq = $2::bigint) as same,
       exists (select 1 from flowpost.event_moves) as moves, $1::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) as ahead`,
    [xid, seq],
  );
  if (state?.same) return cursor;
  // Nothing was moved: it was forgotten, and so lies before everything that is there; or it is from elsewhere.
  if (!state?.moves) return state?.ahead ? '0.0' : cursor;
  const [moved] = await database.query<{ cursor: string; same: boolean }>(
    `select xid::text || '.' || seq as cursor, seq = $1::bigint as same from flowpost.delivery_events where seq <= $1::bigint
     order by seq desc limit 1`,
    [seq],
  );
  if (moved && (moved.same || state.ahead)) return moved.cursor;
  return state.ahead ? '0.0' : cursor;
}

/** For whoever runs the server: is it alive, is it ready, what is going on. */
export const operationRoutes = (
  server: Pick<FlowpostServer, 'closing' | 'connections' | 'database' | 'deliveries' | 'keys' | 'metrics'>,
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
  route({
    method: 'GET',
    path: '/v1/events',
    operationId: 'events',
    summary:
      'Changes of deliveries as they happen, as server-sent events; with the header Last-Event-ID, those since then',
    tag: 'deliveries',
    scope: 'send',
    query: eventsQuery,
    headers: { 'Last-Event-ID': 'The id of the last event one has; it counts more than `after`.' },
    answers: text('`id`, and `data` with delivery, state and time.', 'text/event-stream'),
    async handle({ query, request, reply, key }) {
      const { database, closing } = server;
      const { raw } = reply;
      const gone = new AbortController();
      // Before anything is waited for: who is gone by then is not heard of again.
      raw.once('close', () => gone.abort());
      if (raw.destroyed || request.raw.socket.destroyed) gone.abort();
      const signal = AbortSignal.any([gone.signal, closing]);
      // Behind what a transaction that is still under way may come before, some would be missed.
      const [newest] = await database.query<{ cursor: string }>(
        `select xid::text || '.' || seq as cursor from flowpost.delivery_events
         where seq > $1 and xid < pg_snapshot_xmin(pg_current_snapshot()) order by xid desc, seq desc limit 1`,
        [0],
      );
      const resumed = request.headers['last-event-id'];
      const hasId = typeof resumed === 'string' && resumed !== '';
      if (hasId && !cursorPattern.test(resumed)) {
        throw new MailError('INPUT_INVALID', 'Last-Event-ID: it is none of these events.', {
          details: { issues: [{ path: 'Last-Event-ID', message: 'the id of an event, such as 812.3' }] },
        });
      }
      // The header is the newer one: a client that connects again keeps its URL.
      let after = hasId ? resumed : (query.after ?? newest?.cursor ?? '0.0');
      if (hasId || query.after !== undefined) after = await placeOf(database, after);
      reply.hijack();
      raw.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-request-id': request.id,
      });
      raw.write(': connected\n\n');
      let askAgainAt = Date.now() + askKeyMs;
      while (!signal.aborted) {
        // Who listens for days may have lost the right to.
        if (Date.now() >= askAgainAt) {
          if (!(await server.keys.isGood(key.id).catch(() => true))) break;
          askAgainAt = Date.now() + askKeyMs;
        }
        const [xid = '0', seq = '0'] = after.split('.');
        // Only what no transaction that is still under way can come before.
        const events = await database
          .query<{ cursor: string; delivery_id: string; state: string; at: Date; detail: unknown }>(
            `select xid::text || '.' || seq as cursor, delivery_id, state, at, detail from flowpost.delivery_events
             where (xid, seq) > ($1::xid8, $2::bigint) and xid < pg_snapshot_xmin(pg_current_snapshot())
             order by xid, seq limit ${mostEvents}`,
            [xid, seq],
          )
          .catch(() => []);
        let flows = true;
        for (const { cursor, delivery_id: delivery, state, at, detail } of events) {
          flows = raw.write(
            `id: ${cursor}\nevent: delivery\ndata: ${JSON.stringify({ delivery, state, at, detail })}\n\n`,
          );
          after = cursor;
        }
        // Who does not read is not written to either.
        if (!flows) await once(raw, 'drain', { signal }).catch(() => undefined);
        // A comment now and then tells proxies and dead clients apart.
        if (events.length === 0) raw.write(':\n\n');
        // Where there is more already, nobody waits for it.
        if (events.length < mostEvents) await delay(pollMs, undefined, { signal }).catch(() => undefined);
      }
      if (signal.aborted) raw.destroy();
      else raw.end();
    },
  }),
];
