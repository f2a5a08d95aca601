import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** Where a proxy leads, and after how many bytes it cuts. */
export interface CuttingProxyOptions {
  /** Where the real server is. */
  readonly port: number;
  /** How many bytes pass from the client before the cut; infinite by default. */
  readonly clientBytes?: number;
  /** How many bytes pass from the server before the cut; infinite by default. */
  readonly serverBytes?: number;
  /** Cut only the first connection. */
  readonly once?: boolean;
}

/** A proxy on a loopback port that passes everything on, until so many bytes have passed; then it cuts both sides. */
export class CuttingProxy implements AsyncDisposable {
  /** Bytes that passed on all connections. */
  clientBytes = 0;
  serverBytes = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #connections = 0;

  private constructor(options: CuttingProxyOptions) {
    this.#server = createServer((client) => {
      const server = connect(options.port, '127.0.0.1');
      const cuts = options.once !== true || this.#connections++ === 0;
      const cut = (): void => {
        client.resetAndDestroy();
        server.destroy();
      };
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.setNoDelay(true);
        socket.on('error', () => undefined);
        socket.once('close', () => {
          this.#sockets.delete(socket);
          client.destroy();
          server.destroy();
        });
      }
      const pass = (from: Socket, to: Socket, limit: number, count: (bytes: number) => void): void => {
        let left = cuts ? limit : Number.POSITIVE_INFINITY;
        from.on('data', (chunk: Buffer) => {
          const passing = chunk.subarray(0, Math.min(chunk.length, left));
          left -= passing.length;
          count(passing.length);
          // What passes arrives before the cut, so that the server acts on it.
          to.write(passing, () => left <= 0 && cut());
        });
      };
      pass(client, server, options.clientBytes ?? Number.POSITIVE_INFINITY, (bytes) => {
        this.clientBytes += bytes;
      });
      pass(server, client, options.serverBytes ?? Number.POSITIVE_INFINITY, (bytes) => {
        this.serverBytes += bytes;
      });
    });
  }

  static async start(options: CuttingProxyOptions): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(options);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
