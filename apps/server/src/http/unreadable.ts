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
  /** What has no answer yet, in the order it came over a connection. */
  readonly #open = new WeakMap<Socket, Exchange[]>();
  /** What is closed after the answer that is being worked on. */
  readonly #ending = new WeakSet<Socket>();

  watch(server: Server): void {
    server.on('request', (request, response) => {
      const exchange = { request, response };
      const open = this.#open.get(request.socket) ?? [];
      this.#open.set(request.socket, open);
      open.push(exchange);
      response.once('close', () => open.splice(open.indexOf(exchange), 1));
    });
  }

  readonly answer = (error: Error & { readonly code?: string }, socket: Socket): void => {
    if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
      socket.destroy();
      return;
    }
    const last = this.#open.get(socket)?.findLast(({ request }) => request.complete);
    if (last) {
      // Whoever gets this now would take it for the answer to what is still being worked on. More of it says no more.
      socket.pause();
      if (this.#ending.has(socket)) return;
      this.#ending.add(socket);
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
