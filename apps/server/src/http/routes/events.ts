import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { anySignal, MailError } from '@flowpost/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { cursorPattern, DeliveryEvents, type EventPage, mostEvents } from '../../outbox/delivery-events.ts';
import type { FlowpostServer } from '../../parts.ts';
import { type Route, route } from '../route.ts';

const eventsQuery = z.strictObject({
  after: z
    .string()
    .regex(cursorPattern)
    .optional()
    .describe('The id of the last event one has; without it those from now on.'),
});
/** How often it is asked whether a listener's key is still good, in milliseconds. */
const askKeyMs = 2_000;
const pollMs = 500;

const nothingAfter = (last: string): EventPage => ({ text: '', count: 0, last });

/** The last event a client has, in its header. That is the newer one: a client that connects again keeps its URL. */
function lastEventId(request: FastifyRequest): string | undefined {
  const resumed = request.headers['last-event-id'];
  if (typeof resumed !== 'string' || resumed === '') return undefined;
  if (cursorPattern.test(resumed)) return resumed;
  throw new MailError('INPUT_INVALID', 'Last-Event-ID: it is none of these events.', {
    details: { issues: [{ path: 'Last-Event-ID', message: 'the id of an event, such as 812.3' }] },
  });
}

/** Ends when the client goes away, also when it went before anything was waited for. */
function goneSignal(request: FastifyRequest, reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  if (reply.raw.destroyed || request.raw.socket.destroyed) gone.abort();
  return gone.signal;
}

/** Tells listeners what becomes of deliveries, as it happens. */
export const eventRoutes = ({
  closing,
  database,
  keys,
}: Pick<FlowpostServer, 'closing' | 'database' | 'keys'>): Route[] => {
  const events = new DeliveryEvents(database);
  return [
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
      answers: {
        200: {
          description: '`id`, and `data` with delivery, state and time.',
          schema: z.string(),
          contentType: 'text/event-stream',
        },
      },
      async handle({ query, request, reply, key }) {
        const { raw } = reply;
        const signal = anySignal(goneSignal(request, reply), closing);
        const known = lastEventId(request) ?? query.after;
        let last = known === undefined ? await events.newest() : await events.placeOf(known);
        reply.hijack();
        raw.writeHead(200, {
          'content-type': 'text/event-stream',
          'cache-control': 'no-store',
          // As they come: nginx would keep them until there are some kilobytes.
          'x-accel-buffering': 'no',
          'x-request-id': request.id,
        });
        raw.write(': connected\n\n');
        let askAgainAt = performance.now() + askKeyMs;
        while (!signal.aborted) {
          // Who listens for days may have lost the right to.
          if (performance.now() >= askAgainAt) {
            if (!(await keys.isGood(key.id).catch(() => true))) break;
            askAgainAt = performance.now() + askKeyMs;
          }
          const { text, count, last: next } = await events.pageAfter(last).catch(() => nothingAfter(last));
          last = next;
          // A comment now and then tells proxies and dead clients apart.
          const flows = raw.write(count === 0 ? ':\n\n' : text);
          // Who does not read is not written to either.
          if (!flows) await once(raw, 'drain', { signal }).catch(() => undefined);
          // Where there is more already, nobody waits for it.
          if (count < mostEvents) await delay(pollMs, undefined, { signal }).catch(() => undefined);
        }
        if (signal.aborted) raw.destroy();
        else raw.end();
      },
    }),
  ];
};
