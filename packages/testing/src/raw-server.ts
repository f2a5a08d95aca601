import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

/** A TCP server for whatever a real server would not do: each connection is handed to a function. */
export class RawServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** How many connections were made. */
  connections = 0;

  private constructor(serve: (socket: Socket, connection: number) => void) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      // Clients that break off are what such servers are for.
      socket.on('error', () => undefined);
      socket.once('close', () => this.#sockets.delete(socket));
      serve(socket, ++this.connections);
    });
  }

  static async start(serve: (socket: Socket, connection: number) => void): Promise<RawServer> {
    const server = new RawServer(serve);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/**
 * Plays the server's side of SMTP in clear on a socket. `answer` gets each command and says the reply, without its
 * line end; undefined leaves the usual one, null says nothing. In the message `onBody` gets every chunk.
 */
export function speakSmtp(
  socket: Socket,
  answer: (command: string) => string | null | undefined,
  onBody: (soFar: Buffer) => void = () => undefined,
): void {
  let body: Buffer | undefined;
  let pending = '';
  const say = (reply: string | null): void => {
    if (reply !== null) socket.write(`${reply}\r\n`);
  };
  const usual = (verb: string): string =>
    verb === 'DATA' ? '354 go on' : verb === 'AUTH' ? '235 welcome' : '250 ok';
  say(answer('GREETING') ?? '220 test');
  socket.on('data', (chunk) => {
    if (body) {
      body = Buffer.concat([body, chunk]);
      onBody(body);
      if (!body.subarray(-5).equals(Buffer.from('\r\n.\r\n'))) return;
      body = undefined;
      const reply = answer('.');
      say(reply === undefined ? '250 taken' : reply);
      return;
    }
    const lines = (pending + chunk.toString('latin1')).split('\r\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      const verb = line.slice(0, 4).toUpperCase();
      const given = answer(line);
      const reply = given === undefined ? usual(verb) : given;
      say(reply);
      if (verb === 'DATA' && reply?.includes('354')) body = Buffer.alloc(0);
    }
  });
}
