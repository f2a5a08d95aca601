import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { frameworkProblem } from './framework-problem.ts';

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Answers what is no HTTP, or has too many header fields; nothing of ours has seen it. */
export class Unreadable {
  /** What came last over a connection. */
  readonly #last = new WeakMap<Socket, Exchange>();

  watch(server: Server): void {
    server.on('request', (request, response) => this.#last.set(request.socket, { request, response }));
  }

  readonly answer = (error: Error & { readonly code?: string }, socket: Socket): void => {
    if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
      socket.destroy();
      return;
    }
    const last = this.#last.get(socket);
    if (last?.request.complete && !last.response.closed) {
      // Whoever gets this now would take it for the answer to what is still being worked on.
      last.response.once('close', () => socket.destroy());
      return;
    }
    const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
    const id = randomUUID();
    const statusCode = tooLarge ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
    const body = JSON.stringify(frameworkProblem({ statusCode }, id));
    const head = [
      `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode]}`,
      'content-type: application/problem+json',
      ...[`content-length: ${Buffer.byteLength(body)}`, `x-request-id: ${id}`, 'connection: close'],
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  };
}
