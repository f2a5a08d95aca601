import type { FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { ApiKey, Scope } from '../security/api-keys.ts';

/** What a handler gets, checked. */
interface Call<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  readonly key: ApiKey;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Takes room in memory for what the request leads to, until it is done with; throws where there is none. */
  takeRoom(bytes: number): void;
}

interface RouteAnswer {
  readonly description: string;
  readonly schema?: z.ZodType | undefined;
  /** Default JSON. */
  readonly contentType?: string | undefined;
}

/** One operation of the API: what it takes, what it answers, and who may call it. The document of the API is made of these. */
export interface Route<
  Params extends z.ZodType = z.ZodType,
  Query extends z.ZodType = z.ZodType,
  Body extends z.ZodType = z.ZodType,
> {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** As in OpenAPI: `/v1/deliveries/{id}`. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly tag: string;
  /** Asked by who watches the server: answered also to HEAD, and however often. */
  readonly isProbe?: boolean;
  /** Which scope the key needs; undefined for anybody. */
  readonly scope?: Scope | undefined;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  /** Header fields beside the usual ones. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly answers: Readonly<Record<number, RouteAnswer>>;
  handle(call: Call<z.output<Params>, z.output<Query>, z.output<Body>>): unknown;
}

/** Keeps the types of a route together. */
export function route<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType>(
  one: Route<Params, Query, Body>,
): Route {
  return one as unknown as Route;
}
