import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { messageEnd } from './message-end.ts';

/** A TCP server for whatever a real server would not do: each connection is handed to a function. */
export class RawServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** How many connections were made. */
  connections = 0;

  private constructor(serve: (socket: Socket, connection: number) => void) {
    // Replies in several writes would otherwise wait for the client's delayed acknowledgements, 40 ms each time.
    this.#server = createServer({ noDelay: true }, (socket) => {
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
 * line end; undefined leaves the usual one, null says nothing. In the message `onBody` gets all that is here, again with
 * each chunk.
 */
export function speakSmtp(
  socket: Socket,
  answer: (command: string) => string | null | undefined,
  onBody: (soFar: Buffer) => void = () => undefined,
): void {
  let pending: Buffer = Buffer.alloc(0);
  /** How much of a message was looked at; undefined between messages. */
  let seen: number | undefined;
  const say = (reply: string | null): void => {
    if (reply !== null) socket.write(`${reply}\r\n`);
  };
  const usual = (verb: string): string =>
    verb === 'DATA' ? '354 go on' : verb === 'AUTH' ? '235 welcome' : '250 ok';
  const take = (bytes: number): Buffer => {
    const taken = pending.subarray(0, bytes);
    pending = pending.subarray(bytes);
    return taken;
  };
  /** Whether there was a whole command, or the end of a message. */
  const step = (): boolean => {
    if (seen !== undefined) {
      const end = messageEnd(pending, seen);
      onBody(pending.subarray(0, end));
      seen = pending.length;
      if (end === undefined) return false;
      take(end);
      seen = undefined;
      const reply = answer('.');
      say(reply === undefined ? '250 taken' : reply);
      return true;
    }
    const end = pending.indexOf('\r\n');
    if (end < 0) return false;
    const line = take(end + 2).toString('latin1', 0, end);
    const verb = line.slice(0, 4).toUpperCase();
    const given = answer(line);
    const reply = given === undefined ? usual(verb) : given;
    say(reply);
    if (verb === 'DATA' && reply?.includes('354')) seen = 0;
    return seen === undefined || pending.length > 0;
  };
  say(answer('GREETING') ?? '220 test');
  socket.on('data', (chunk) => {
    pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
    while (step());
  });
}
