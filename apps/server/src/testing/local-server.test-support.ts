import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../config.ts';
import { type RunningServer, startServer } from '../server.ts';
import { Client } from './client.test-support.ts';
import { putDatabase } from './made-database.test-support.ts';

export interface LocalServer extends AsyncDisposable {
  readonly server: RunningServer;
  readonly client: Client;
  readonly url: string;
  readonly key: string;
  readonly folder: string;
}

/** A folder for one test, that goes with it. */
export async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'flowpost-server-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/** A server in this process, on a free port. @param folder default one of its own, that goes with it. */
export async function startLocal(
  environment: NodeJS.ProcessEnv = {},
  given?: { readonly path: string; readonly key: string },
): Promise<LocalServer> {
  const own = given ? undefined : await temporaryFolder();
  const folder = given?.path ?? own?.path ?? '';
  await putDatabase(join(folder, 'database'));
  const config = readConfig({ FLOWPOST_DATA: folder, PORT: '0', LOG_LEVEL: 'silent', ...environment });
  const server = await startServer(config);
  const key = server.firstKey ?? given?.key ?? '';
  return {
    ...{ server, key, folder },
    url: server.url,
    client: await Client.connect(server.url, key),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await own?.[Symbol.asyncDispose]();
    },
  };
}
