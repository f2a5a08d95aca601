import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '@flowpost/core';
import { storageReason } from '../database/database.ts';
import type { ClaimedDelivery } from './delivery.ts';
import type { DeliveryRunner } from './delivery-runner.ts';
import type { DeliveryStore } from './delivery-store.ts';
import { ended, inDoubt } from './ended.ts';
import type { InHand } from './in-hand.ts';
import { Lanes } from './lanes.ts';

export interface WorkerOptions {
  readonly deliveries: DeliveryStore;
  readonly runner: DeliveryRunner;
  readonly logger: Logger;
  readonly worker: string;
  readonly inHand: InHand;
  /** Deliveries under way at once. */
  readonly concurrency: number;
  /** How long to wait before looking again when there was nothing to do, in milliseconds. */
  readonly pollMs: number;
  /** Whether many wait to be taken in; they come first, for a moment. */
  readonly isBusy: () => boolean;
  /** Nothing is taken, and what nobody is at is still given back. Default false. */
  readonly isPaused?: boolean;
}

/** How large messages under way may be together, as they are stored: in memory they take several times that. */
const mostBytes = 128 * 1_048_576;
const mostBytesAtOnce = 32 * 1_048_576;
/** How long sending stands back for taking in, each time. */
const restMs = 50;

/** Takes deliveries out of the outbox and sends them, as many at once as allowed. */
export class OutboxWorker {
  readonly #options: WorkerOptions;
  readonly #running = new Set<Promise<unknown>>();
  readonly #lanes = new Lanes();
  #bytes = 0;
  /** Of which lanes nothing was wanted when it was last looked. */
  #closed: readonly string[] = [];
  /** With which lanes closed nothing was found, and until when that is believed: another process may put something in. */
  #foundNothing: { readonly closed: readonly string[]; readonly until: number } | undefined;
  readonly #stopping = new AbortController();
  #wake: (() => void) | undefined;
  #oneEnded: (() => void) | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Something was put in, of a lane or of any: no need to wait, unless nothing is wanted of that lane. */
  wake(lane?: string): void {
    if (lane !== undefined && this.#closed.includes(lane)) return;
    this.#foundNothing = undefined;
    this.#wake?.();
  }

  /** Takes nothing more, and waits for what is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.wake();
    await this.#loop;
    await Promise.allSettled(this.#running);
  }

  async #run(): Promise<void> {
    const { logger, pollMs, inHand, isBusy } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      if (!(await this.#hasRoom())) continue;
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      if (isBusy()) await delay(restMs);
      if (signal.aborted) return;
      try {
        if (inHand.mayHaveMore) await this.#giveBack();
        if (!this.#options.isPaused && (await this.#take())) continue;
        const isTime = delay(pollMs, undefined, { signal }).catch(() => undefined);
        await Promise.race([woken, isTime]);
      } catch (error) {
        this.#foundNothing = undefined;
        inHand.suspect();
        const { code, message } = error as { code?: string; message: string };
        logger.error('the outbox cannot be read', { code, message, ...storageReason(error) });
        await delay(1_000, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Whether there is room for more; waits a moment when there is little. */
  async #hasRoom(): Promise<boolean> {
    const { concurrency } = this.#options;
    const free = concurrency - this.#running.size;
    // A few at a time are not worth a transaction, as long as there will be more in a moment.
    if (free >= concurrency / 4 && this.#bytes < mostBytes) return true;
    const oneEnded = new Promise<void>((resolve) => {
      this.#oneEnded = resolve;
    });
    await Promise.race(free > 0 ? [oneEnded, delay(restMs)] : [oneEnded]);
    return this.#running.size < concurrency && this.#bytes < mostBytes;
  }

  /** Takes what there is room for, and begins with it. @returns whether there was anything. */
  async #take(): Promise<boolean> {
    const { deliveries, worker, concurrency, pollMs } = this.#options;
    const free = concurrency - this.#running.size;
    this.#closed = this.#lanes.closed(free, mostBytes - this.#bytes);
    const known = this.#foundNothing;
    const isInVain =
      known && performance.now() < known.until && known.closed.every((lane) => this.#closed.includes(lane));
    if (isInVain) return false;
    const found = { closed: this.#closed, until: performance.now() + pollMs / 2 };
    this.#foundNothing = found;
    // Half of what is free, so that something is left for the next lane that comes.
    const claims = await deliveries.claim(worker, Math.ceil(free / 2), {
      except: this.#closed,
      atMostBytes: Math.min(mostBytesAtOnce, mostBytes - this.#bytes),
    });
    for (const claim of claims) this.#begin(claim);
    if (claims.length === 0) return false;
    // Nothing was put in meanwhile, so what was known before is so still.
    if (this.#foundNothing === found) this.#foundNothing = known;
    return true;
  }

  /** What is under this process's name and not in its hands: what it was given without being told. */
  async #giveBack(): Promise<void> {
    const { deliveries, inHand, worker } = this.#options;
    inHand.settled();
    const { length } = await deliveries.recover(
      [worker],
      ended.toJSON(),
      inDoubt.toJSON(),
      () => inHand.attempts,
    );
    if (length === 0) return;
    this.#options.logger.warn('gave back what the database had handed out unheard', { deliveries: length });
    this.#foundNothing = undefined;
  }

  #begin(claim: ClaimedDelivery): void {
    const { lane, bytes } = claim;
    this.#lanes.begin(lane, bytes);
    this.#bytes += bytes;
    const onTurnAway = (waitMs: number): void => this.#lanes.away(lane, waitMs);
    // How it ended is written down where it ended.
    const { signal: stopping } = this.#stopping;
    const running = this.#options.runner
      .run(claim, { keepsTrying: true, onTurnAway, stopping })
      .catch(() => undefined);
    this.#running.add(running);
    void running.finally(() => {
      this.#running.delete(running);
      this.#bytes -= bytes;
      this.#oneEnded?.();
      this.#lanes.end(lane, bytes);
      const free = this.#options.concurrency - this.#running.size;
      if (this.#closed.includes(lane) && !this.#lanes.closed(free, mostBytes - this.#bytes).includes(lane))
        this.#wake?.();
    });
  }
}
