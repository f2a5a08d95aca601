import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lockPath, type SecretBox, toMailError } from '@flowpost/core';
import { createGuardedFetch } from '@flowpost/mime-attachments';
import { createFlowScope, type FlowScope } from '@flowpost/node-adapter';
import type { FastifyInstance } from 'fastify';
import type { ServerConfig } from './config.ts';
import { ConnectionStore } from './connections/connection-store.ts';
import { HostAccess } from './connections/host-access.ts';
import type { Database } from './database/database.ts';
import { migrate } from './database/migrate.ts';
import { openPglite } from './database/pglite.ts';
import { openPostgres } from './database/postgres.ts';
import { createApp } from './http/app.ts';
import { openApiDocument } from './http/openapi.ts';
import type { Route } from './http/route.ts';
import { connectionRoutes } from './http/routes/connections.ts';
import { deliveryRoutes } from './http/routes/deliveries.ts';
import { keyRoutes } from './http/routes/keys.ts';
import { nodeRoutes } from './http/routes/nodes.ts';
import { operationRoutes } from './http/routes/operations.ts';
import { createLogger, forPackages } from './observability/logging.ts';
import { Metrics } from './observability/metrics.ts';
import { DeliveryRunner } from './outbox/delivery-runner.ts';
import { DeliveryStore } from './outbox/delivery-store.ts';
import { InHand } from './outbox/in-hand.ts';
import { Outbox, startBoss } from './outbox/outbox.ts';
import { Recovery } from './outbox/recovery.ts';
import { SharedRate } from './outbox/shared-rate.ts';
import { DatabaseTokenStore } from './outbox/token-store.ts';
import { OutboxWorker } from './outbox/worker.ts';
import { Runs } from './runs.ts';
import { ApiKeys } from './security/api-keys.ts';
import { rotateKeys } from './security/rotate-keys.ts';
import { checkKeys, openSecretBox } from './security/secret-keys.ts';

/** What the parts of a server have of each other. */
export interface FlowpostServer {
  readonly database: Database;
  readonly deliveries: DeliveryStore;
  readonly connections: ConnectionStore;
  readonly hostAccess: HostAccess;
  readonly keys: ApiKeys;
  readonly runs: Runs;
  readonly scope: FlowScope;
  readonly metrics: Metrics;
  readonly closing: AbortSignal;
  wake(lane?: string): void;
}

export interface RunningServer extends AsyncDisposable {
  readonly url: string;
  /** An API key, when this start made one. It is not to be had again. */
  readonly firstKey: string | undefined;
  readonly app: FastifyInstance;
}

const hourMs = 3_600_000;
/** How long after the grace period the database is waited for, in milliseconds. */
const afterGraceMs = 2_000;
const ownVersion = (): string =>
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

/** Told how long credentials are still good, at the start and then each day. */
const dayMs = 24 * hourMs;

async function openDatabase({ databaseUrl, dataFolder }: ServerConfig): Promise<Database> {
  return databaseUrl === undefined ? openPglite(join(dataFolder, 'database')) : openPostgres(databaseUrl);
}

/**
 * Starts the server: database, outbox, worker and HTTP.
 *
 * @throws MailError `FOLDER_IN_USE`, `SECRET_KEY_INVALID`; what the database says when it cannot be opened.
 */
export async function startServer(config: ServerConfig): Promise<RunningServer> {
  for (const folder of [config.dataFolder, config.filesFolder])
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (config.databaseUrl === undefined) {
    const database = join(config.dataFolder, 'database');
    mkdirSync(database, { recursive: true });
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
  const logger = forPackages(log);
  const database = await openDatabase(config);
  cleanUp.push(() => database[Symbol.asyncDispose]());
  if (!database.survivesPowerLoss)
    log.warn('what is accepted survives the end of this process, but not that of the machine');
  await migrate(database);
  const boss = await startBoss(database, (error) =>
    log.error({ message: error.message }, 'the queue failed'),
  );
  cleanUp.push(() => boss.stop({ graceful: false }));

  // What users encrypt and what this server seals must not be taken for each other, so each has keys of its own.
  const userBox = openSecretBox(config.keys, join(config.dataFolder, 'keys'));
  const box = await userBox.derive('server');
  const { isRotated } = await checkKeys(database, box);
  const worker = randomUUID();
  const closing = new AbortController();
  const cut = new AbortController();
  setMaxListeners(0, closing.signal, cut.signal);
  const metrics = new Metrics();
  const deliveries = new DeliveryStore(database, boss);
  const hostAccess = new HostAccess(config);
  const connections = new ConnectionStore(database, { box, userBox }, hostAccess);
  const keys = new ApiKeys(database);
  const { allowedHosts, sandbox, filesFolder } = config;
  const scope = createFlowScope({
    secretBox: userBox,
    logger,
    auth: { tokenStore: new DatabaseTokenStore(database, box), ...guardedFetch(config, hostAccess) },
    attachments: { fileRoots: [filesFolder], baseFolder: filesFolder, urls: { allowedHosts } },
    sandbox,
  });
  const { retryForMs, concurrency } = config;
  const rate = new SharedRate(database);
  const inHand = new InHand();
  const runner = new DeliveryRunner({
    database,
    deliveries,
    connections,
    scope,
    rate,
    metrics,
    logger,
    worker,
    inHand,
    retryForMs,
    writesAhead: database.kind === 'postgres',
    cut: cut.signal,
  });
  const outbox = new Outbox(deliveries, worker, inHand);
  const outboxWorker = new OutboxWorker({
    ...{ deliveries, runner, logger, worker, inHand, concurrency, pollMs: 500 },
    isBusy: () => database.kind === 'pglite' && outbox.isBusy,
  });
  const wake = (lane?: string): void => outboxWorker.wake(lane);
  const recovery = new Recovery({
    ...{ database, deliveries, logger, worker, inHand, onRecovered: () => wake() },
    ...{ beatMs: config.leaseMs / 5, silenceMs: config.leaseMs },
  });
  const runs = new Runs({
    ...{ box, connections, deliveries, runner, metrics, logger, hostAccess, onQueued: wake },
    ...{ outbox, closing: closing.signal },
  });
  const server: FlowpostServer = {
    ...{ database, deliveries, connections, hostAccess, keys, runs, scope, metrics, wake },
    closing: closing.signal,
  };

  await recovery.start();
  const routes: Route[] = [
    ...nodeRoutes(server),
    ...deliveryRoutes(server),
    ...connectionRoutes(server),
    ...keyRoutes(server),
    ...operationRoutes(server, () => document),
  ];
  const document = openApiDocument(routes, ownVersion());
  const { bodyBytes, requestsPerMinute, trustedProxies } = config;
  const app = await createApp({
    ...{ routes, keys, metrics, log, bodyBytes, requestsPerMinute, trustedProxies },
    closing: closing.signal,
  });
  const url = await app.listen({ host: config.host, port: config.port });
  // Not before anything that may fail: a key that nobody was shown is of no use, and there would be no other.
  const isFirst = (await keys.list()).length === 0;
  const made = isFirst || config.makesKey;
  const firstKey = made
    ? (await keys.create(isFirst ? 'first' : 'made at start', ['admin', 'send'])).key
    : undefined;
  outboxWorker.start();
  const forget = (): unknown => deliveries.forget(config.keepDays).catch(() => undefined);
  // At once too: a server that is started often would never come to it.
  void forget();
  const timers = [setInterval(forget, hourMs), setInterval(() => void reportExpiry(server, log), dayMs)];
  for (const timer of timers) timer.unref();
  void reportExpiry(server, log);
  void sealAnew(database, box, isRotated, log, closing.signal);
  log.info({ url, database: database.kind, survivesPowerLoss: database.survivesPowerLoss }, 'ready');

  let stopped: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    closing.abort();
    for (const timer of timers) clearInterval(timer);
    // Nothing new comes in, what is under way ends, and then everything below goes. What takes too long is left as it is, and
    // taken over by whoever comes next.
    const late = setTimeout(() => {
      log.warn('what is still under way is left to whoever takes over');
      cut.abort(new Error('the server is going down'));
      app.server.closeAllConnections();
    }, config.graceMs);
    // A connection that was busy when the end began, and is idle now, would keep it waiting.
    const leaving = setInterval(() => app.server.closeIdleConnections(), 50);
    await app.close().finally(() => clearInterval(leaving));
    await outboxWorker.stop();
    clearTimeout(late);
    await recovery.stop();
    await scope[Symbol.asyncDispose]();
    for (const undo of cleanUp.toReversed()) await undo();
  };
  const stop = async (): Promise<void> => {
    // A database that does not answer is not waited for: what it was told, and what not, whoever takes over finds out.
    const given = delay(config.graceMs + afterGraceMs, 'late', { ref: false });
    if ((await Promise.race([end(), given])) === 'late') log.warn('the database did not answer in time');
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

/** Token endpoints and Graph of whoever may only send must be public. Through a proxy it is the proxy that connects. */
function guardedFetch({ allowedHosts }: ServerConfig, { trusts }: HostAccess): { fetch?: typeof fetch } {
  const { NODE_USE_ENV_PROXY, HTTPS_PROXY, https_proxy } = process.env;
  if (NODE_USE_ENV_PROXY === '1' && (HTTPS_PROXY ?? https_proxy)) return {};
  return { fetch: createGuardedFetch({ allowedHosts, trusts }) };
}

/**
 * With keys behind the first one everything is sealed with that, as long as something is not; after this they are no longer needed.
 * Without any it is only looked whether they were taken away too early.
 */
async function sealAnew(
  database: Database,
  box: SecretBox,
  isRotated: boolean,
  log: ReturnType<typeof createLogger>,
  signal: AbortSignal,
): Promise<void> {
  // Each key is there for what is sealed, and for what was before that had keys of its own.
  const hasOthers = box.keyIds.length > 2;
  try {
    const only = isRotated && !hasOthers ? ['connections'] : undefined;
    const { sealed, unreadable } = await rotateKeys(database, box, signal, only);
    if (unreadable.length > 0)
      log.error({ unreadable: unreadable.slice(0, 20), count: unreadable.length }, 'no key opens these');
    else if (!only && !signal.aborted) log.info({ sealed }, 'everything is sealed with the first key');
  } catch (error) {
    const { code, message } = toMailError(error);
    log.error({ code, message }, 'not everything could be sealed with the first key; the next start goes on');
  }
}

/** Secrets and certificates that end soon, in the log; the metrics and the API show them too. */
async function reportExpiry(
  { connections }: FlowpostServer,
  log: ReturnType<typeof createLogger>,
): Promise<void> {
  const stored = await connections.list().catch(() => []);
  for (const { name, warnings } of stored)
    for (const warning of warnings) log.warn({ connection: name }, warning);
}
