import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig, type ServerConfig } from '../config.ts';
import { type RunningServer, startServer } from '../server.ts';
import { Client } from './client.test-support.ts';

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
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** A server in this process, on a free port, with a folder of its own. */
export async function startLocal(
  change: Partial<ServerConfig> = {},
  environment: NodeJS.ProcessEnv = {},
): Promise<LocalServer> {
  const folder = await temporaryFolder();
  const config = readConfig({ FLOWPOST_DATA: folder.path, PORT: '0', LOG_LEVEL: 'silent', ...environment });
  const server = await startServer({ ...config, ...change });
  const key = server.firstKey ?? '';
  return {
    server,
    key,
    url: server.url,
    folder: folder.path,
    client: await Client.connect(server.url, key),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}
