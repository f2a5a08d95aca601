import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '@flowpost/core';
import type { ClaimedDelivery } from './delivery.ts';
import type { DeliveryRunner } from './delivery-runner.ts';
import type { DeliveryStore } from './delivery-store.ts';

export interface WorkerOptions {
  readonly deliveries: DeliveryStore;
  readonly runner: DeliveryRunner;
  readonly logger: Logger;
  readonly worker: string;
  /** Deliveries under way at once. */
  readonly concurrency: number;
  /** How long to wait before looking again when there was nothing to do, in milliseconds. */
  readonly pollMs: number;
  /** Whether many wait to be taken in; they come first, for a moment. */
  readonly isBusy: () => boolean;
}

/** How long sending stands back for taking in, each time. */
const restMs = 50;

/** Takes deliveries out of the outbox and sends them, as many at once as allowed. */
export class OutboxWorker {
  readonly #options: WorkerOptions;
  readonly #running = new Set<Promise<unknown>>();
  /** How many are under way for each connection. */
  readonly #byConnection = new Map<string, number>();
  readonly #stopping = new AbortController();
  #wake: (() => void) | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Something was put in: no need to wait. */
  wake(): void {
    this.#wake?.();
  }

  /** How many are under way. */
  get running(): number {
    return this.#running.size;
  }

  /** Takes nothing more, and waits for what is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.wake();
    await this.#loop;
    await Promise.allSettled(this.#running);
  }

  async #run(): Promise<void> {
    const { deliveries, logger, worker, concurrency, pollMs } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const free = concurrency - this.#running.size;
      // A few at a time are not worth a transaction, as long as there will be more in a moment.
      if (free < concurrency / 4) {
        await Promise.race([...this.#running, ...(free > 0 ? [delay(restMs)] : [])]);
        if (this.#running.size === concurrency) continue;
      }
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      if (this.#options.isBusy()) await delay(restMs);
      try {
        const claims = await deliveries.claim(worker, concurrency - this.#running.size);
        for (const claim of claims) this.#begin(claim);
        if (claims.length > 0) continue;
        await Promise.race([woken, delay(pollMs, undefined, { signal }).catch(() => undefined)]);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        logger.error('the outbox cannot be read', { code, message });
        await delay(1_000, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** One slow server must not keep all the others waiting, so nobody has more than a part. */
  #begin(claim: ClaimedDelivery): void {
    const { runner, concurrency } = this.#options;
    const owner = claim.sealed ?? '';
    const share = this.#byConnection.get(owner) ?? 0;
    const isOver = share >= Math.max(5, concurrency / 4);
    if (!isOver) this.#byConnection.set(owner, share + 1);
    // How it ended is written down where it ended.
    const work = isOver
      ? runner.postpone(claim, Date.now() + 1_000 + Math.random() * 4_000)
      : runner.run(claim, { keepsTrying: true });
    const running = work.catch(() => undefined);
    this.#running.add(running);
    void running.finally(() => {
      this.#running.delete(running);
      if (isOver) return;
      const left = (this.#byConnection.get(owner) ?? 1) - 1;
      if (left > 0) this.#byConnection.set(owner, left);
      else this.#byConnection.delete(owner);
    });
  }
}
