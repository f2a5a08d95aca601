import { randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import { isMailError, MailError, parseWith } from '@flowpost/core';
import fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger as Pino } from 'pino';
import type { z } from 'zod';
import type { Metrics } from '../observability/metrics.ts';
import { traced } from '../observability/tracing.ts';
import type { ApiKey, ApiKeys } from '../security/api-keys.ts';
import { assertStorable } from './assert-storable.ts';
import { BodyBudget, NoRoom } from './body-budget.ts';
import { frameworkProblem } from './framework-problem.ts';
import { takeJson } from './json-body.ts';
import { mostConnections } from './most-connections.ts';
import { httpProblem, type Problem, problemOf } from './problem.ts';
import { readRest } from './read-rest.ts';
import { RequestCounts } from './request-counts.ts';
import type { Route } from './route.ts';
import { Unreadable } from './unreadable.ts';

export interface AppOptions {
  readonly routes: readonly Route[];
  readonly keys: ApiKeys;
  readonly metrics: Metrics;
  readonly log: Pino;
  readonly bodyBytes: number;
  readonly requestsPerMinute: number;
  /** Proxies whose word on where a request comes from is taken. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** The server is going down, and still serves: whoever asks is to ask another one the next time. */
  readonly leaving: AbortSignal;
  /** The server is going down, and takes nothing more. */
  readonly closing: AbortSignal;
}

const nobody: ApiKey = { id: '', name: '', scopes: [], createdAt: '' };

/** Whose request it is, once that is known. */
const keyOf = (request: FastifyRequest): ApiKey | undefined => (request as { key?: ApiKey }).key;

/** What may be held of all bodies together, in bytes: in memory each takes several times its size until it is answered. */
const mostBodyBytes = 256 * 1_048_576;

/** What may come where no body is taken, in bytes. */
const mostWithoutBody = 4_096;

function send(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply.status(problem.status).type('application/problem+json').send(problem);
}

const notFound = (request: FastifyRequest, reply: FastifyReply): FastifyReply =>
  send(
    reply,
    httpProblem(
      404,
      'NOT_FOUND',
      'There is nothing at this address.',
      'The addresses are listed in /openapi.json.',
      request.id,
    ),
  );

/** The API over HTTP: who calls, what they may, what they sent, and failures as problems. */
export async function createApp(options: AppOptions): Promise<FastifyInstance> {
  const { routes, keys, metrics, log, bodyBytes, requestsPerMinute, trustedProxies } = options;
  const { leaving, closing } = options;
  const unreadable = new Unreadable();
  const app = fastify({
    bodyLimit: bodyBytes,
    genReqId: () => randomUUID(),
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
    requestTimeout: 300_000,
    routerOptions: { maxParamLength: 200 },
    trustProxy: trustedProxies ? [...trustedProxies] : false,
    // Said below, in the form of all other problems.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      reply.header('x-request-id', request.id);
      send(reply, frameworkProblem(error, request.id));
    },
    clientErrorHandler: unreadable.answer,
  });
  unreadable.watch(app.server);
  const most = mostConnections();
  if (most !== undefined) app.server.maxConnections = most;
  takeJson(app);
  await app.register(helmet);
  await app.register(rateLimit, { global: false, store: RequestCounts });
  // Who watches a server must not take a busy one for a dead one.
  const probes = new Set(routes.filter(({ isProbe }) => isProbe).map(({ path }) => path));
  const allowList = ({ routeOptions }: FastifyRequest): boolean => probes.has(routeOptions.url ?? '');
  const limit = { max: requestsPerMinute, timeWindow: 60_000, allowList };
  // By address before anybody is asked who he is, and by key once that is known.
  app.addHook('onRequest', app.rateLimit({ ...limit, keyGenerator: ({ ip }: FastifyRequest) => `ip ${ip}` }));
  // Before its body is read.
  app.addHook('onRequest', async (request, reply) => {
    if (request.is404) return notFound(request, reply);
  });
  // Counted by hand: of two hooks of the plugin the second one does nothing.
  const countKey = app.createRateLimit({ ...limit, keyGenerator: (request) => `key ${keyOf(request)?.id}` });
  app.addHook('preHandler', async (request, reply) => {
    if (keyOf(request) === undefined) return;
    const counted = await countKey(request);
    if (counted.isAllowed || !counted.isExceeded) return;
    reply.header('retry-after', counted.ttlInSeconds);
    throw Object.assign(new Error('too many requests with one key'), { statusCode: 429 });
  });
  app.addHook('onSend', async (request, reply) => {
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    if (leaving.aborted) reply.header('connection', 'close');
    await readRest(request.raw);
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    metrics.request(`${request.method} ${route}`, reply.statusCode);
    request.log.debug({ route, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request');
  });
  app.setNotFoundHandler(notFound);
  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (isMailError(error)) {
      if (error.code === 'INTERNAL' || error.code === 'STORAGE_UNAVAILABLE') {
        const { message } = (error.cause ?? {}) as { message?: string };
        request.log.error({ ...error.details, cause: message }, error.message);
      }
      return send(reply, problemOf(error.toJSON(), request.id));
    }
    if (error instanceof NoRoom)
      return send(reply.header('retry-after', 1), serverBusy('has its hands full', request.id));
    if (error.statusCode !== undefined || error.validation)
      return send(reply, frameworkProblem(error, request.id));
    request.log.error({ err: error }, 'unexpected failure');
    return send(
      reply,
      problemOf(new MailError('INTERNAL', 'Something unexpected happened.').toJSON(), request.id),
    );
  });
  const budget = new BodyBudget(mostBodyBytes);
  for (const route of routes) add(app, route, { keys, budget, bodyBytes, closing });
  return app;
}

const serverBusy = (why: string, id: string): Problem =>
  httpProblem(
    503,
    'SERVER_BUSY',
    `The server ${why}.`,
    'Send the request again, after what Retry-After says.',
    id,
  );

/** RFC 9110 section 15.5.16. */
const encodedBody = (encoding: string, id: string): Problem =>
  httpProblem(
    415,
    'CONTENT_ENCODING_UNSUPPORTED',
    `The body comes in an encoding (${encoding.slice(0, 50)}) that this server does not read.`,
    'Send it as it is, without Content-Encoding.',
    id,
  );

async function authenticate(request: FastifyRequest, route: Route, keys: ApiKeys): Promise<ApiKey | Problem> {
  const [, token = ''] = /^Bearer (\S{1,200})$/i.exec(request.headers.authorization ?? '') ?? [];
  const key = await keys.authenticate(token);
  if (!key) {
    return httpProblem(
      401,
      'KEY_REFUSED',
      'There is no API key, or it is not good.',
      'Send Authorization: Bearer KEY.',
      request.id,
    );
  }
  const may = key.scopes.includes('admin') || key.scopes.includes(route.scope ?? 'send');
  if (may) return key;
  return httpProblem(
    403,
    'SCOPE_MISSING',
    `This needs a key with the scope ${route.scope}.`,
    'Use another key.',
    request.id,
  );
}

const isProblem = (value: ApiKey | Problem): value is Problem => 'status' in value;
function parse(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return undefined;
  assertStorable(value);
  return parseWith(schema, value);
}

/** What every route goes by. */
interface Gate {
  readonly keys: ApiKeys;
  readonly budget: BodyBudget;
  readonly bodyBytes: number;
  readonly closing: AbortSignal;
}

function add(app: FastifyInstance, route: Route, { keys, budget, bodyBytes, closing }: Gate): void {
  app.route({
    method: route.method,
    url: route.path.replace(/\{(\w+)\}/g, ':$1'),
    exposeHeadRoute: route.isProbe === true,
    ...(!route.body && { bodyLimit: mostWithoutBody }),
    // Before the body is read: who may not call need not send it.
    onRequest: async (request, reply) => {
      // Whatever an empty body is said to be.
      if (!route.body && request.headers['content-length'] === '0') delete request.headers['content-type'];
      if (route.scope === undefined) return;
      if (closing.aborted)
        return send(reply.header('retry-after', 5), serverBusy('is going down', request.id));
      const key = await authenticate(request, route, keys);
      if (isProblem(key)) {
        if (key.status === 401) reply.header('www-authenticate', 'Bearer');
        return send(reply, key);
      }
      (request as { key?: ApiKey }).key = key;
      const { 'content-encoding': encoding = 'identity' } = request.headers;
      if (route.body && !/^(?:identity)?$/i.test(encoding)) {
        reply.header('accept-encoding', 'identity');
        return send(reply, encodedBody(encoding, request.id));
      }
      if (route.body) budget.announce(request.headers, bodyBytes, reply.raw);
    },
    preParsing: async (request, reply, body) => {
      const isMeasured = request.headers['content-length'] !== undefined;
      return route.body && !isMeasured ? budget.counting(body as Readable, reply.raw) : body;
    },
    handler: (request, reply) => {
      const handled = traced(`flowpost.${route.operationId}`, { 'http.route': route.path }, async () =>
        route.handle({
          params: parse(route.params, request.params),
          query: parse(route.query, request.query),
          body: parse(route.body, request.body),
          key: keyOf(request) ?? nobody,
          request,
          reply,
          takeRoom: (bytes) => budget.take(bytes, reply.raw),
        }),
      );
      return budget.until(handled, reply.raw);
    },
  });
}
