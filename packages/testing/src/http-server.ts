import { once } from 'node:events';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { KeyPair } from './certificates.ts';

/** Answers one request. */
export type HttpHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Where a server listens, and whether over TLS. */
export interface HttpServerOptions {
  /** Speak HTTPS with this certificate. */
  readonly certificate?: KeyPair;
  /** The address to listen on. Default 127.0.0.1. */
  readonly address?: string;
  /** The port. Default one the system chooses. */
  readonly port?: number;
}

/** A real HTTP server on a loopback port, with one handler, or one for each path and 404 for the others. */
export class HttpServer implements AsyncDisposable {
  /** Method and path of every request, in order. */
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #scheme: 'http' | 'https';

  private constructor(server: Server, scheme: 'http' | 'https') {
    this.#server = server;
    this.#scheme = scheme;
  }

  static async start(
    routes: Readonly<Record<string, HttpHandler>> | HttpHandler,
    { certificate, address = '127.0.0.1', port = 0 }: HttpServerOptions = {},
  ): Promise<HttpServer> {
    const listener: HttpHandler = (request, response) => {
      const path = (request.url ?? '').split('?')[0] ?? '';
      self.requests.push(`${request.method} ${request.url}`);
      // Clients that break off are what some tests are about.
      response.on('error', () => undefined);
      const handler =
        typeof routes === 'function' ? routes : Object.hasOwn(routes, path) ? routes[path] : undefined;
      if (handler) handler(request, response);
      else response.writeHead(404).end('no such page');
    };
    const server = certificate ? createHttpsServer({ ...certificate }, listener) : createHttpServer(listener);
    const self = new HttpServer(server, certificate ? 'https' : 'http');
    server.listen(port, address);
    await once(server, 'listening');
    return self;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** A URL of this server. */
  url(path: string, host = '127.0.0.1'): string {
    return `${this.#scheme}://${host}:${this.port}${path}`;
  }

  /** How many connections are open now. */
  async connections(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
