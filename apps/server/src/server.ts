import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { settledTokens } from '@flowpost/auth-providers';
import { lockPath, MailError, makeFolder } from '@flowpost/core';
import type { FastifyInstance } from 'fastify';
import type { Logger as Pino } from 'pino';
import { about } from './about.ts';
import { sealAnew, startChores } from './chores.ts';
import type { ServerConfig } from './config.ts';
import type { Database } from './database/database.ts';
import { migrate } from './database/migrate.ts';
import { openPglite } from './database/pglite.ts';
import { openPostgres } from './database/postgres.ts';
import { createApp } from './http/app.ts';
import { openApiDocument } from './http/openapi.ts';
import type { Route } from './http/route.ts';
import { connectionRoutes } from './http/routes/connections.ts';
import { deliveryRoutes } from './http/routes/deliveries.ts';
import { eventRoutes } from './http/routes/events.ts';
import { keyRoutes } from './http/routes/keys.ts';
import { nodeRoutes } from './http/routes/nodes.ts';
import { operationRoutes } from './http/routes/operations.ts';
import { createLogger, forPackages } from './observability/logging.ts';
import { startBoss } from './outbox/outbox.ts';
import { assemble, type FlowpostServer } from './parts.ts';
import type { ApiKeys } from './security/api-keys.ts';
import { checkKeys, openSecretBox } from './security/secret-keys.ts';

export interface RunningServer extends AsyncDisposable {
  readonly url: string;
  /** An API key, when this start made one. It is not to be had again. */
  readonly firstKey: string | undefined;
  readonly app: FastifyInstance;
}

/** How long after the grace period the database is waited for, in milliseconds. */
const afterGraceMs = 3_000;
/** How long a token that was asked for is waited for as well: it may be the only one that works from now on. In milliseconds. */
const longestTokenMs = 10_000;
const ownVersion = (): string =>
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

/** How long whoever waits for an outcome has to take in what is known of it, once it is not waited for any more. In milliseconds. */
const answerMs = 1_500;

/** A database with its tables and its queue, and what ends both. @throws MailError; what the embedded database says. */
async function openDatabase(
  { databaseUrl, dataFolder }: ServerConfig,
  log: Pino,
  cleanUp: (() => unknown)[],
) {
  const of = <Value>(work: () => Promise<Value>): Promise<Value> =>
    databaseUrl === undefined ? work() : about('DATABASE_URL', work);
  const database: Database = await of(() =>
    databaseUrl === undefined ? openPglite(join(dataFolder, 'database')) : openPostgres(databaseUrl),
  );
  cleanUp.push(() => database[Symbol.asyncDispose]());
  if (!database.survivesPowerLoss)
    log.warn('what is accepted survives the end of this process, but not that of the machine');
  await of(() => migrate(database, (text) => log.warn(text)));
  const boss = await of(() =>
    startBoss(database, (error) => log.error({ message: error.message }, 'the queue failed')),
  );
  cleanUp.push(() => boss.stop({ graceful: false }));
  return { database, boss };
}

/**
 * Starts the server: database, outbox, worker and HTTP.
 *
 * @throws MailError `FOLDER_IN_USE`, `SECRET_KEY_INVALID`, `STORAGE_UNAVAILABLE`, `CONNECTION_INVALID`; what the embedded database says when
 * it cannot be opened.
 */
export async function startServer(config: ServerConfig): Promise<RunningServer> {
  await about('FLOWPOST_DATA', async () => {
    for (const folder of [config.dataFolder, config.filesFolder]) await makeFolder(folder, { mode: 0o700 });
  });
  if (config.databaseUrl === undefined) {
    const database = join(config.dataFolder, 'database');
    await makeFolder(database);
    // PGlite lets everybody write some of its files, and the folder they are in may have been there before.
    chmodSync(database, 0o700);
  }
  // Two at once would destroy an embedded database.
  const onLost = (): never => {
    process.stderr.write(`${config.dataFolder} was taken over by another process, so this one ends.\n`);
    process.exit(1);
  };
  const unlock =
    config.databaseUrl === undefined
      ? await lockPath(join(config.dataFolder, 'database'), { onLost })
      : () => undefined;
  const cleanUp: (() => unknown)[] = [unlock];
  try {
    return await start(config, cleanUp);
  } catch (error) {
    for (const undo of cleanUp.toReversed()) await undo();
    throw error;
  }
}

async function start(config: ServerConfig, cleanUp: (() => unknown)[]): Promise<RunningServer> {
  const log = createLogger(config.logLevel);
  const { database, boss } = await openDatabase(config, log, cleanUp);
  const open = () => openSecretBox(config.keys, join(config.dataFolder, 'keys'));
  const userBox = await (config.keys === undefined ? open() : about('FLOWPOST_KEYS', open));
  const box = await userBox.derive('server');
  const { isRotated } = await checkKeys(database, box);
  const foundations = { database, boss, logger: forPackages(log), boxes: { box, userBox } };
  const { server, worker, recovery, tokenStore, leaving, closing, cut } = assemble(config, foundations);
  const { keys, metrics, scope } = server;

  await recovery.start();
  const routes = routesOf(server);
  const { bodyBytes, requestsPerMinute, trustedProxies } = config;
  const app = await createApp({
    ...{ routes, keys, metrics, log, bodyBytes, requestsPerMinute, trustedProxies },
    ...{ leaving: leaving.signal, closing: closing.signal },
  });
  const url = await listen(app, config);
  // Not before anything that may fail: a key that nobody was shown is of no use, and there would be no other.
  const firstKey = await makeKey(keys, config.makesKey);
  if (config.isPaused) log.warn('FLOWPOST_OUTBOX_PAUSED is set, so nothing is sent out of the outbox');
  worker.start();
  const endChores = startChores(server, config, log);
  void sealAnew(database, box, isRotated, log, closing.signal);
  log.info({ url, database: database.kind, survivesPowerLoss: database.survivesPowerLoss }, 'ready');

  let stopped: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    closing.abort();
    endChores();
    // Nothing new comes in, what is under way ends, and then everything below goes. What takes too long is left as it is, and
    // taken over by whoever comes next.
    const late = setTimeout(() => {
      log.warn('what is still under way is left to whoever takes over');
      cut.abort(new Error('the server is going down'));
      // Whoever waits for an outcome is told what is known of it.
      setTimeout(() => app.server.closeAllConnections(), answerMs).unref();
    }, config.graceMs);
    // A connection that was busy when the end began, and is idle now, would keep it waiting.
    const leaving = setInterval(() => app.server.closeIdleConnections(), 50);
    await app.close().finally(() => clearInterval(leaving));
    await worker.stop();
    clearTimeout(late);
    await recovery.stop();
    await scope[Symbol.asyncDispose]();
    await settledTokens(tokenStore);
    for (const undo of cleanUp.toReversed()) await undo();
  };
  const stop = async (): Promise<void> => {
    leaving.abort();
    if (config.drainMs > 0) {
      log.info({ seconds: config.drainMs / 1_000 }, 'stopping; still serving until a proxy has noticed');
      await delay(config.drainMs);
    }
    // A database that does not answer is not waited for: what it was told, and what not, whoever takes over finds out.
    const late = (ms: number): Promise<'late'> => delay(ms, 'late', { ref: false });
    const given = async (): Promise<'late'> => {
      await late(config.graceMs);
      await Promise.race([settledTokens(tokenStore), late(longestTokenMs)]);
      return late(afterGraceMs);
    };
    if ((await Promise.race([end(), given()])) === 'late') log.warn('the database did not answer in time');
    log.info('stopped');
  };
  return {
    url,
    firstKey,
    app,
    [Symbol.asyncDispose]: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** @throws MailError `CONNECTION_INVALID` where it cannot listen. */
async function listen(app: FastifyInstance, { host, port }: ServerConfig): Promise<string> {
  try {
    return await app.listen({ host, port });
  } catch (cause) {
    throw new MailError('CONNECTION_INVALID', `It cannot listen at HOST ${host}, PORT ${port}.`, {
      hint: 'Correct them, or end what listens there.',
      details: { reason: (cause as NodeJS.ErrnoException).code },
      cause,
    });
  }
}

/** What can be asked of a server, its own description among it. */
function routesOf(server: FlowpostServer): Route[] {
  const routes: Route[] = [
    ...nodeRoutes(server),
    ...deliveryRoutes(server),
    ...eventRoutes(server),
    ...connectionRoutes(server),
    ...keyRoutes(server),
    ...operationRoutes(server, () => document),
  ];
  const document = openApiDocument(routes, ownVersion());
  return routes;
}

/** The first API key of a server that has none, or one more. */
async function makeKey(keys: ApiKeys, oneMore: boolean): Promise<string | undefined> {
  const isFirst = (await keys.list()).length === 0;
  if (!isFirst && !oneMore) return undefined;
  return (await keys.create(isFirst ? 'first' : 'made at start', ['admin', 'send'])).key;
}
