import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { Logger, SecretBox, TokenStore } from '@flowpost/core';
import { createFlowScope, type FlowScope } from '@flowpost/node-adapter';
import type { PgBoss } from 'pg-boss';
import type { ServerConfig } from './config.ts';
import { ConnectionStore } from './connections/connection-store.ts';
import { guardedFetch } from './connections/guarded-fetch.ts';
import { HostAccess } from './connections/host-access.ts';
import type { Database } from './database/database.ts';
import { Metrics } from './observability/metrics.ts';
import { DeliveryRunner } from './outbox/delivery-runner.ts';
import { DeliveryStore } from './outbox/delivery-store.ts';
import { InHand } from './outbox/in-hand.ts';
import { Outbox } from './outbox/outbox.ts';
import { Recovery } from './outbox/recovery.ts';
import { SharedRate } from './outbox/shared-rate.ts';
import { DatabaseTokenStore } from './outbox/token-store.ts';
import { OutboxWorker } from './outbox/worker.ts';
import { Runs } from './runs.ts';
import { ApiKeys } from './security/api-keys.ts';

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
  /** The server is going down, and still serves. */
  readonly leaving: AbortSignal;
  /** The server is going down, and takes nothing more. */
  readonly closing: AbortSignal;
  wake(lane?: string): void;
  /** A delivery was taken out of the outbox: whoever is at it here need not go on. */
  cancel(id: string): void;
}

/** What a server is made of, and what of it is started and stopped. */
export interface ServerParts {
  readonly server: FlowpostServer;
  readonly worker: OutboxWorker;
  readonly recovery: Recovery;
  readonly tokenStore: TokenStore;
  /** Sends whoever asks to another server the next time. */
  readonly leaving: AbortController;
  /** Ends whatever waits for something new: the server takes no more. */
  readonly closing: AbortController;
  /** Ends what is under way. */
  readonly cut: AbortController;
}

/** What there has to be before the parts. */
export interface Foundations {
  readonly database: Database;
  readonly boss: PgBoss;
  readonly logger: Logger;
  /** The keys of those who encrypt for this server, and its own: what one made must not be taken for the other's. */
  readonly boxes: { readonly box: SecretBox; readonly userBox: SecretBox };
}

/** Makes the parts of a server; none of them does anything yet. */
export function assemble(config: ServerConfig, { database, boss, logger, boxes }: Foundations): ServerParts {
  const { allowedHosts, sandbox, filesFolder, retryForMs, concurrency, leaseMs } = config;
  const { box, userBox } = boxes;
  /** This process, among those that share the database. */
  const worker = randomUUID();
  const leaving = new AbortController();
  const closing = new AbortController();
  const cut = new AbortController();
  setMaxListeners(0, closing.signal, cut.signal);
  const metrics = new Metrics();
  const deliveries = new DeliveryStore(database, boss);
  const hostAccess = new HostAccess(config);
  const connections = new ConnectionStore(database, boxes, hostAccess);
  const keys = new ApiKeys(database);
  const tokenStore = new DatabaseTokenStore(database, box);
  const scope = createFlowScope({
    secretBox: userBox,
    logger,
    auth: { tokenStore, fetch: guardedFetch(config, hostAccess, process.env) },
    attachments: { fileRoots: [filesFolder], baseFolder: filesFolder, urls: { allowedHosts } },
    sandbox,
  });
  const inHand = new InHand();
  const runner = new DeliveryRunner({
    ...{ database, deliveries, connections, scope, metrics, logger, worker, inHand, retryForMs, concurrency },
    rate: new SharedRate(database),
    writesAhead: database.kind === 'postgres',
    cut: cut.signal,
  });
  const outbox = new Outbox(deliveries, worker, inHand);
  const outboxWorker = new OutboxWorker({
    ...{ deliveries, runner, logger, worker, inHand, concurrency, pollMs: 500 },
    isBusy: () => database.kind === 'pglite' && outbox.isBusy,
    isPaused: config.isPaused,
  });
  const wake = (lane?: string): void => outboxWorker.wake(lane);
  const recovery = new Recovery({
    ...{ database, deliveries, logger, worker, inHand, onRecovered: () => wake() },
    ...{ beatMs: leaseMs / 5, silenceMs: leaseMs, redirectTo: sandbox?.redirectTo?.address },
  });
  const runs = new Runs({
    ...{ box, connections, deliveries, runner, metrics, logger, hostAccess, onQueued: wake },
    ...{ outbox, attachments: scope.options.attachments, closing: closing.signal, cut: cut.signal },
  });
  const server: FlowpostServer = {
    ...{ database, deliveries, connections, hostAccess, keys, runs, scope, metrics, wake },
    cancel: (id) => runner.cancel(id),
    leaving: leaving.signal,
    closing: closing.signal,
  };
  return { server, worker: outboxWorker, recovery, tokenStore, leaving, closing, cut };
}
