import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '@flowpost/core';
import { type Database, storageReason } from '../database/database.ts';
import type { DeliveryStore } from './delivery-store.ts';
import { ended, inDoubt } from './ended.ts';
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
  /** Who gets the mail of this process instead of its recipients. */
  readonly redirectTo?: string | undefined;
  readonly onRecovered: () => void;
}

/** So far back a clock is set, and does not just go slower, in milliseconds. */
const setBackMs = 1_000;
/** How often deliveries are looked for that nothing will come for, in milliseconds. There should be none. */
const lookMs = 300_000;

/** Says that this process is alive, and takes care of what others left behind that are not. */
export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #stopping = new AbortController();
  /** What others last said, and since when this process has seen them say nothing else, without a break. */
  readonly #watched = new Map<string, { readonly seenAt: string; readonly since: number; askFrom: number }>();
  /** By how much the clock of the database was ahead of a clock that nobody sets, when it last answered, in milliseconds. */
  #ahead = Number.NEGATIVE_INFINITY;
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
    const { database } = this.#options;
    await this.#beat();
    if (database.kind === 'pglite') await this.#recover();
    await this.#options.deliveries.bringForward();
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { deliveries, beatMs, silenceMs, logger, inHand, onRecovered } = this.#options;
    const { signal } = this.#stopping;
    let nextLook = performance.now() + lookMs;
    /** Why the database cannot be reached, while it cannot. */
    let away: string | undefined;
    while (!signal.aborted) {
      await delay(beatMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        const at = await this.#beat();
        away = undefined;
        await this.#heedClock(at);
        // When nobody could reach the database nobody could say that he is alive, which is no reason to take him for dead. Nor
        // could they while it stood still.
        if (Date.now() - this.#heardAt > silenceMs / 2) this.#watched.clear();
        this.#heardAt = Date.now();
        await this.#recover(await this.#silent(silenceMs));
        if (performance.now() < nextLook) continue;
        nextLook = performance.now() + lookMs;
        inHand.suspect();
        if ((await deliveries.requeueForgotten()) > 0) onRecovered();
      } catch (error) {
        this.#watched.clear();
        const why = { code: (error as { code?: string }).code, ...storageReason(error) };
        // Once for each reason: a beat is a fraction of a second.
        if (away !== (why.reason ?? why.code)) logger.warn('the database cannot be reached', why);
        away = why.reason ?? why.code;
      }
    }
  }

  /** Says that this process is alive. @returns the time of the database, in Unix milliseconds. */
  async #beat(): Promise<number> {
    const { database, worker, redirectTo } = this.#options;
    const [beat] = await database.query<{ readonly at: number }>(
      `insert into flowpost.workers (id, redirect_to) values ($1, $2) on conflict (id) do update set seen_at = now()
       returning (extract(epoch from now()) * 1000)::float8 as at`,
      [worker, redirectTo ?? null],
    );
    return beat?.at ?? 0;
  }

  /**
   * What waits, waits for a time of the database. Where its clock was set back, that is further off than anybody meant.
   */
  async #heedClock(at: number): Promise<void> {
    const { deliveries, logger, onRecovered } = this.#options;
    const ahead = at - performance.now();
    const wasSetBack = this.#ahead - ahead > setBackMs;
    this.#ahead = ahead;
    if (!wasSetBack) return;
    const moved = await deliveries.bringForward();
    if (moved === 0) return;
    logger.warn('the clock of the database was set back', { deliveries: moved });
    onRecovered();
  }

  /** Those others that have said nothing for so long, in milliseconds. By how this process sees it: clocks of machines are set. */
  async #silent(silenceMs: number): Promise<string[]> {
    const { database, worker } = this.#options;
    const now = performance.now();
    const others = await database.query<{ id: string; said: string }>(
      'select id, seen_at::text as said from flowpost.workers where id <> $1',
      [worker],
    );
    const silent: string[] = [];
    for (const { id, said } of others) {
      const known = this.#watched.get(id);
      if (known?.seenAt !== said) this.#watched.set(id, { seenAt: said, since: now, askFrom: now });
      else if (now - known.since > silenceMs && now >= known.askFrom) {
        silent.push(id);
        // To look for what somebody left is to look at all that has not ended. Where nothing is found, once in a while is enough.
        known.askFrom = now + lookMs;
      }
    }
    return silent;
  }

  /** @param silent who has ended. Without it everybody else has. */
  async #recover(silent?: readonly string[]): Promise<void> {
    if (silent?.length === 0) return;
    const { database, deliveries, worker, logger, onRecovered } = this.#options;
    const dead = await database.query<{ id: string }>(
      `select id from flowpost.workers where id <> $1 and ($2::uuid[] is null or id = any($2::uuid[]))
         and exists (select 1 from flowpost.deliveries d where d.open and d.worker = workers.id)`,
      [worker, silent ?? null],
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
