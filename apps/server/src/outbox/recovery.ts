import { setTimeout as delay } from 'node:timers/promises';
import { type Logger, MailError } from '@flowpost/core';
import { type Database, storageReason } from '../database/database.ts';
import type { DeliveryStore } from './delivery-store.ts';
import type { InHand } from './in-hand.ts';

export interface RecoveryOptions {
  readonly database: Database;
  readonly deliveries: DeliveryStore;
  readonly logger: Logger;
  readonly worker: string;
  /** How often a process says that it is alive, in milliseconds. */
  readonly beatMs: number;
  /** How long one that says nothing counts as alive, in milliseconds. */
  readonly silenceMs: number;
  readonly inHand: InHand;
  readonly onRecovered: () => void;
}

/** How often deliveries are looked for that nothing will come for, in milliseconds. There should be none. */
const lookMs = 300_000;

export const ended = new MailError(
  'PROCESS_ENDED',
  'The process that was sending this ended in the middle.',
  {
    retryable: true,
  },
);
export const inDoubt = new MailError(
  'DELIVERY_IN_DOUBT',
  'The process that was sending this ended while the message may have been leaving.',
  { phase: 'confirm' },
);

/** Says that this process is alive, and takes care of what others left behind that are not. */
export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #stopping = new AbortController();
  /** Since when this process has seen the database without a break. */
  #steadySince = performance.now();
  /** When the database last answered, by a clock that people set: it goes on while a machine sleeps. */
  #heardAt = Date.now();
  #loop: Promise<void> | undefined;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /**
   * Registers this process. An embedded database belongs to one process alone, so whoever else is in it has ended, and what it
   * left is taken care of before anything new is done.
   */
  async start(): Promise<void> {
    const { database, worker } = this.#options;
    await database.query('insert into flowpost.workers (id) values ($1)', [worker]);
    if (database.kind === 'pglite') await this.#recover();
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { database, deliveries, worker, beatMs, silenceMs, logger, inHand, onRecovered } = this.#options;
    const { signal } = this.#stopping;
    let nextLook = performance.now() + lookMs;
    /** Why the database cannot be reached, while it cannot. */
    let away: string | undefined;
    while (!signal.aborted) {
      await delay(beatMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await database.query(
          'insert into flowpost.workers (id) values ($1) on conflict (id) do update set seen_at = now()',
          [worker],
        );
        away = undefined;
        // When nobody could reach the database nobody could say that he is alive, which is no reason to take him for dead. Nor
        // could they while it stood still.
        if (Date.now() - this.#heardAt > silenceMs / 2) this.#steadySince = performance.now();
        this.#heardAt = Date.now();
        if (performance.now() - this.#steadySince > silenceMs) await this.#recover(silenceMs);
        if (performance.now() < nextLook) continue;
        nextLook = performance.now() + lookMs;
        inHand.suspect();
        if ((await deliveries.requeueForgotten()) > 0) onRecovered();
      } catch (error) {
        this.#steadySince = performance.now();
        const why = { code: (error as { code?: string }).code, ...storageReason(error) };
        // Once for each reason: a beat is a fraction of a second.
        if (away !== (why.reason ?? why.code)) logger.warn('the database cannot be reached', why);
        away = why.reason ?? why.code;
      }
    }
  }

  /** @param silenceMs how long it is that the dead have said nothing. Without it everybody else is: clocks say nothing about that. */
  async #recover(silenceMs?: number): Promise<void> {
    const { database, deliveries, worker, logger, onRecovered } = this.#options;
    const dead = await database.query<{ id: string }>(
      `select id from flowpost.workers where id <> $1 and ($2::float8 is null or seen_at <= now() - $2::float8 * interval '1 millisecond')
         and exists (select 1 from flowpost.deliveries d where d.open and d.worker = workers.id)`,
      [worker, silenceMs ?? null],
    );
    if (dead.length === 0) return;
    const recovered = await deliveries.recover(
      dead.map(({ id }) => id),
      ended.toJSON(),
      inDoubt.toJSON(),
    );
    if (recovered.length === 0) return;
    const doubtful = recovered.filter(({ state }) => state === 'in-doubt').length;
    logger.warn('took over what an ended process left behind', {
      deliveries: recovered.length,
      inDoubt: doubtful,
    });
    onRecovered();
  }
}
