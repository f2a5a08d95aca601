import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
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
import { isStorable } from '../database/storable.ts';
import type { Metrics } from '../observability/metrics.ts';
import { traced } from '../observability/tracing.ts';
import type { ApiKey, ApiKeys } from '../security/api-keys.ts';
import { BodyBudget, NoRoom } from './body-budget.ts';
import { frameworkProblem } from './framework-problem.ts';
import { mostConnections } from './most-connections.ts';
import { httpProblem, type Problem, problemOf } from './problem.ts';
import type { Route } from './route.ts';

export interface AppOptions {
  readonly routes: readonly Route[];
  readonly keys: ApiKeys;
  readonly metrics: Metrics;
  readonly log: Pino;
  readonly bodyBytes: number;
  readonly requestsPerMinute: number;
  /** Proxies whose word on where a request comes from is taken. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** The server is going down. */
  readonly closing: AbortSignal;
}

const nobody: ApiKey = { id: '', name: '', scopes: [], createdAt: '' };

/** Whose request it is, once that is known. */
const keyOf = (request: FastifyRequest): ApiKey | undefined => (request as { key?: ApiKey }).key;

/** What may be held of all bodies together, in bytes: in memory each takes several times its size until it is answered. */
const mostBodyBytes = 256 * 1_048_576;

function send(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply.status(problem.status).type('application/problem+json').send(problem);
}

/** The API over HTTP: who calls, what they may, what they sent, and failures as problems. */
export async function createApp(options: AppOptions): Promise<FastifyInstance> {
  const { routes, keys, metrics, log, bodyBytes, requestsPerMinute, trustedProxies, closing } = options;
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
    clientErrorHandler: answerUnreadable,
  });
  const most = mostConnections();
  if (most !== undefined) app.server.maxConnections = most;
  const readJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const [, charset = 'utf-8'] =
      /;\s*charset="?([^\s;"]*)/i.exec(request.headers['content-type'] ?? '') ?? [];
    if (!/^utf-?8$/i.test(charset)) {
      done(Object.assign(new Error('another charset'), { statusCode: 415 }));
      return;
    }
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(body as Buffer);
    } catch {
      done(Object.assign(new Error('no UTF-8'), { statusCode: 400 }));
      return;
    }
    // What takes no body may come with the usual header all the same.
    if (text === '') done(null, undefined);
    else readJson(request, text, done);
  });
  await app.register(helmet);
  await app.register(rateLimit, { global: false });
  const limit = { max: requestsPerMinute, timeWindow: 60_000 };
  // By address before anybody is asked who he is, and by key once that is known.
  app.addHook('onRequest', app.rateLimit({ ...limit, keyGenerator: ({ ip }: FastifyRequest) => `ip ${ip}` }));
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
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    metrics.request(`${request.method} ${route}`, reply.statusCode);
    request.log.debug({ route, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request');
  });
  app.setNotFoundHandler((request, reply) =>
    send(
      reply,
      httpProblem(
        404,
        'NOT_FOUND',
        'There is nothing at this address.',
        'The addresses are listed in /openapi.json.',
        request.id,
      ),
    ),
  );
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
  for (const route of routes) add(app, route, { keys, budget, closing });
  return app;
}

const bodyLimitOf = (app: FastifyInstance): number => app.initialConfig.bodyLimit ?? 0;

const serverBusy = (why: string, id: string): Problem =>
  httpProblem(
    503,
    'SERVER_BUSY',
    `The server ${why}.`,
    'Send the request again, after what Retry-After says.',
    id,
  );

/** Answers what is no HTTP, or has too many header fields; nothing of ours has seen it. */
function answerUnreadable(error: Error & { readonly code?: string }, socket: Socket): void {
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
  if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
    socket.destroy();
    return;
  }
  const id = randomUUID();
  const statusCode = tooLarge ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  const body = JSON.stringify(frameworkProblem({ statusCode }, id));
  const head = [
    `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode]}`,
    'content-type: application/problem+json',
    ...[`content-length: ${Buffer.byteLength(body)}`, `x-request-id: ${id}`, 'connection: close'],
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

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
/** Deeper than anybody means; the database's own limit is that of its stack, and reaching it ends it. */
const deepest = 100;

interface Unstorable {
  /** Names and numbers, the innermost first. */
  readonly path: (string | number)[];
  readonly message: string;
}

/** What in a value no database can hold. A request may have millions of parts, so their paths are made for what is found only. */
function findUnstorable(value: unknown, depth = 0): Unstorable | undefined {
  if (typeof value === 'string')
    return isStorable(value) ? undefined : { path: [], message: 'it holds a NUL or half a surrogate pair' };
  if (typeof value !== 'object' || value === null) return undefined;
  if (depth === deepest) return { path: [], message: `there is no place for more than ${deepest} levels` };
  if (Array.isArray(value)) {
    for (const [index, one] of value.entries()) {
      const found = findUnstorable(one, depth + 1);
      if (found) return { ...found, path: [...found.path, index] };
    }
    return undefined;
  }
  for (const key in value) {
    const found = findUnstorable(key) ?? findUnstorable((value as Record<string, unknown>)[key], depth + 1);
    if (found) return { ...found, path: [...found.path, key] };
  }
  return undefined;
}

/** @throws MailError `INPUT_INVALID` for what no database can hold, wherever it stands. */
function assertStorable(value: unknown): void {
  const found = findUnstorable(value);
  if (!found) return;
  const path = found.path.reverse().join('.').slice(0, 100);
  throw new MailError('INPUT_INVALID', `${path || 'The request'}: ${found.message}.`, {
    details: { issues: [{ path, message: found.message }] },
  });
}

function parse(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return undefined;
  assertStorable(value);
  return parseWith(schema, value);
}

/** What every route goes by. */
interface Gate {
  readonly keys: ApiKeys;
  readonly budget: BodyBudget;
  readonly closing: AbortSignal;
}

function add(app: FastifyInstance, route: Route, { keys, budget, closing }: Gate): void {
  app.route({
    method: route.method,
    url: route.path.replace(/\{(\w+)\}/g, ':$1'),
    // Before the body is read: who may not call need not send it.
    onRequest: async (request, reply) => {
      if (route.scope === undefined) return;
      if (closing.aborted)
        return send(reply.header('retry-after', 5), serverBusy('is going down', request.id));
      const key = await authenticate(request, route, keys);
      if (isProblem(key)) {
        if (key.status === 401) reply.header('www-authenticate', 'Bearer');
        return send(reply, key);
      }
      (request as { key?: ApiKey }).key = key;
      if (route.body) budget.announce(request.headers, bodyLimitOf(app), reply.raw);
    },
    preParsing: async (request, reply, body) => {
      const isMeasured = request.headers['content-length'] !== undefined;
      return route.body && !isMeasured ? budget.counting(body as Readable, reply.raw) : body;
    },
    handler: (request, reply) =>
      traced(`flowpost.${route.operationId}`, { 'http.route': route.path }, async () =>
        route.handle({
          params: parse(route.params, request.params),
          query: parse(route.query, request.query),
          body: parse(route.body, request.body),
          key: keyOf(request) ?? nobody,
          request,
          reply,
        }),
      ),
  });
}
