import { PgBoss } from 'pg-boss';
import { Batcher } from '../database/batcher.ts';
import { type Database, forPgBoss } from '../database/database.ts';
import { exclusively } from '../database/migrate.ts';
import type { NewDelivery } from './delivery.ts';
import { queue } from './delivery-keeper.ts';
import type { Known } from './delivery-reader.ts';
import type { DeliveryStore } from './delivery-store.ts';

/** The queue, over the same database as everything else. Its own retries are off: ours go by phase and reply code. */
export async function startBoss(database: Database, onError: (error: Error) => void): Promise<PgBoss> {
  const boss = new PgBoss({
    db: forPgBoss(database),
    backend: database.kind,
    schedule: false,
    supervise: true,
  });
  boss.on('error', onError);
  const start = async (): Promise<void> => {
    await boss.start();
    await boss.createQueue(queue, { retryLimit: 0, expireInSeconds: 3_600, retentionSeconds: 1_209_600 });
  };
  // Of several processes that start at once, one makes the queue's tables and the others wait.
  if (database.kind === 'postgres') await exclusively(database, start);
  else await start();
  return boss;
}

/** Takes deliveries in. What it has said yes to is in the database, as durably as that can. */
export class Outbox {
  readonly #inserts: Batcher<NewDelivery, Known | undefined>;

  constructor(deliveries: DeliveryStore, worker: string) {
    this.#inserts = new Batcher((items) => deliveries.insert(items, worker));
  }

  /** Whether many are waiting to be taken in. */
  get isBusy(): boolean {
    return this.#inserts.waiting >= 16;
  }

  /** @returns what the idempotency key was used for before, when it was; then nothing was taken in. */
  put(delivery: NewDelivery): Promise<Known | undefined> {
    return this.#inserts.run(delivery);
  }
}
