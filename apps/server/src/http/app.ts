import { randomUUID } from 'node:crypto';
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
import { httpProblem, type Problem, problemOf } from './problem.ts';
import type { Route } from './route.ts';

export interface AppOptions {
  readonly routes: readonly Route[];
  readonly keys: ApiKeys;
  readonly metrics: Metrics;
  readonly log: Pino;
  readonly bodyBytes: number;
  readonly requestsPerMinute: number;
}

const nobody: ApiKey = { id: '', name: '', scopes: [], createdAt: '' };

/** Whose request it is, once that is known. */
const keyOf = (request: FastifyRequest): ApiKey | undefined => (request as { key?: ApiKey }).key;

function send(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply.status(problem.status).type('application/problem+json').send(problem);
}

/** What the framework says about requests it does not even hand over. */
function frameworkProblem(error: FastifyError, id: string): Problem {
  const { statusCode = 500 } = error;
  if (statusCode === 413) {
    return httpProblem(
      413,
      'REQUEST_TOO_LARGE',
      'The request is larger than this server takes.',
      'Send less, or attach files by URL.',
      id,
    );
  }
  if (statusCode === 415) {
    return httpProblem(
      415,
      'MEDIA_TYPE_UNSUPPORTED',
      'The body is not JSON.',
      'Send JSON with Content-Type: application/json.',
      id,
    );
  }
  if (statusCode === 429) {
    return httpProblem(
      429,
      'TOO_MANY_REQUESTS',
      'There were too many requests within a minute.',
      'Wait as long as Retry-After says.',
      id,
    );
  }
  return httpProblem(
    statusCode < 500 ? statusCode : 400,
    'REQUEST_INVALID',
    'The request cannot be read.',
    'Send well-formed JSON in UTF-8.',
    id,
  );
}

/** The API over HTTP: who calls, what they may, what they sent, and failures as problems. */
export async function createApp(options: AppOptions): Promise<FastifyInstance> {
  const { routes, keys, metrics, log, bodyBytes, requestsPerMinute } = options;
  const app = fastify({
    bodyLimit: bodyBytes,
    genReqId: () => randomUUID(),
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
    requestTimeout: 300_000,
    routerOptions: { maxParamLength: 200 },
  });
  const readJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    // What takes no body may come with the usual header all the same.
    if (body === '') done(null, undefined);
    else readJson(request, body as string, done);
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
    if (error.statusCode !== undefined || error.validation)
      return send(reply, frameworkProblem(error, request.id));
    request.log.error({ err: error }, 'unexpected failure');
    return send(
      reply,
      problemOf(new MailError('INTERNAL', 'Something unexpected happened.').toJSON(), request.id),
    );
  });
  for (const route of routes) add(app, route, keys);
  return app;
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

function unstorable(path: string, message: string): MailError {
  return new MailError('INPUT_INVALID', `${path || 'The request'}: ${message}.`, {
    details: { issues: [{ path, message }] },
  });
}

/** @throws MailError `INPUT_INVALID` for what no database can hold, wherever it stands. */
function assertStorable(value: unknown, path: string, depth = 0): void {
  if (typeof value === 'string') {
    if (isStorable(value)) return;
    throw unstorable(path, 'it holds a NUL or half a surrogate pair');
  }
  if (typeof value !== 'object' || value === null) return;
  if (depth === deepest)
    throw unstorable(path.slice(0, 100), `there is no place for more than ${deepest} levels`);
  for (const [key, one] of Object.entries(value)) {
    assertStorable(key, path);
    assertStorable(one, path === '' ? key : `${path}.${key}`, depth + 1);
  }
}

function parse(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return undefined;
  assertStorable(value, '');
  return parseWith(schema, value);
}

function add(app: FastifyInstance, route: Route, keys: ApiKeys): void {
  app.route({
    method: route.method,
    url: route.path.replace(/\{(\w+)\}/g, ':$1'),
    // Before the body is read: who may not call need not send it.
    onRequest: async (request, reply) => {
      if (route.scope === undefined) return;
      const key = await authenticate(request, route, keys);
      if (isProblem(key)) {
        if (key.status === 401) reply.header('www-authenticate', 'Bearer');
        return send(reply, key);
      }
      (request as { key?: ApiKey }).key = key;
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
