import { setTimeout as delay } from 'node:timers/promises';
import { MailError } from '@flowpost/core';
import { PgBoss } from 'pg-boss';
import { Batcher } from '../database/batcher.ts';
import { type Database, forPgBoss, isUnreached, mayHaveBeenDone } from '../database/database.ts';
import { exclusively, hasSchema } from '../database/migrate.ts';
import type { NewDelivery } from './delivery.ts';
import { queue } from './delivery-keeper.ts';
import type { Known } from './delivery-reader.ts';
import { type DeliveryRow, firstAttempt, rowOf } from './delivery-row.ts';
import type { DeliveryStore } from './delivery-store.ts';
import type { InHand } from './in-hand.ts';

/** The queue, over the same database as everything else. Its own retries are off: ours go by phase and reply code. */
export async function startBoss(database: Database, onError: (error: Error) => void): Promise<PgBoss> {
  const boss = new PgBoss({
    ...{ db: forPgBoss(database), backend: database.kind, schedule: false, supervise: true },
    createSchema: !(await hasSchema(database, 'pgboss')),
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

/** For how long something is put in again when the database does not say whether it was, and how often, in milliseconds. */
const againForMs = 5_000;
const againEveryMs = 250;

/** Takes deliveries in. What it has said yes to is in the database, as durably as that can. */
export class Outbox {
  readonly #inserts: Batcher<DeliveryRow, Known | undefined>;
  readonly #deliveries: DeliveryStore;
  readonly #worker: string;
  readonly #inHand: InHand;
  /** Since when the database does not say anything that can be relied on, on the monotonic clock. */
  #awaySince: number | undefined;

  constructor(deliveries: DeliveryStore, worker: string, inHand: InHand) {
    this.#deliveries = deliveries;
    this.#worker = worker;
    this.#inHand = inHand;
    this.#inserts = new Batcher((rows) => this.#insert(rows), { bytesOf: ({ json }) => json.length });
  }

  /** Whether many are waiting to be taken in. */
  get isBusy(): boolean {
    return this.#inserts.waiting >= 16;
  }

  /**
   * One that this process sends at once is in its hands from now on.
   *
   * @returns what the idempotency key was used for before, when it was; then nothing was taken in.
   * @throws MailError `STORAGE_UNAVAILABLE`; it says so when nobody can say whether the delivery was taken in.
   */
  async put(delivery: NewDelivery): Promise<Known | undefined> {
    const { id, mode, idempotencyKey } = delivery;
    const claim = { id, attempt: firstAttempt };
    if (mode === 'sync') this.#inHand.take(claim);
    try {
      const known = await this.#inserts.run(rowOf(delivery, this.#worker));
      if (known) this.#inHand.release(claim);
      return known;
    } catch (error) {
      this.#inHand.release(claim);
      if (!mayHaveBeenDone(error)) throw error;
      // One that this process was to send is given back unsent. Of the others it is not known.
      if (mode === 'async') throw unknown(error, idempotencyKey !== undefined);
      this.#inHand.suspect();
      throw error;
    }
  }

  /** Again, as long as the database may just be starting again: nobody need know of that. */
  async #insert(rows: readonly DeliveryRow[]): Promise<(Known | undefined)[]> {
    let unclear: unknown;
    for (;;) {
      try {
        const known = await this.#deliveries.insert(rows);
        this.#awaySince = undefined;
        return known;
      } catch (error) {
        if (mayHaveBeenDone(error)) unclear = error;
        if (!(mayHaveBeenDone(error) || isUnreached(error))) throw unclear ?? error;
        this.#awaySince ??= performance.now();
        // One after another would wait as long as the first one, and all of them without end.
        if (performance.now() > this.#awaySince + againForMs) throw unclear ?? error;
        await delay(againEveryMs);
      }
    }
  }
}

/** The delivery may have been taken in. With a key, asking again answers that. */
const unknown = (cause: unknown, hasKey: boolean): MailError =>
  new MailError('STORAGE_UNAVAILABLE', 'The database did not say whether it took this.', {
    ...(hasKey ? { retryable: true } : { phase: 'confirm' }),
    hint: hasKey
      ? 'It may have been accepted. Send the same request with the same Idempotency-Key again.'
      : 'It may have been accepted: look at GET /v1/deliveries before you send it again. With an Idempotency-Key you could simply have repeated it.',
    cause,
  });
