import { setTimeout as delay } from 'node:timers/promises';
import { isMailError } from '@flowpost/core';

/** How many wait at most for one piece of work. */
const largest = 200;
/** And how much of it, in bytes: the database has limits of its own, which the small ones must not meet because of the large. */
const largestBytes = 32 * 1_048_576;
/**
 * For how many turns of the event loop those are awaited who come at nearly the same time, such as sessions whose servers answered
 * together. Measured: with one, such a group falls apart into ever more transactions; more than eight gain nothing.
 */
const turns = 8;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Does for many at once what would take as long for each: whoever comes while a batch is under way waits for the next one. So
 * one transaction is shared by as many as there are, and by one when there is one, without a delay for anybody.
 */
export class Batcher<Item, Result> {
  readonly #work: (items: readonly Item[]) => Promise<readonly Result[]>;
  readonly #gatherMs: number;
  readonly #bytesOf: (item: Item) => number;
  #waiting: Waiting<Item, Result>[] = [];
  #running = false;

  /**
   * @param work gives a result for each item, in their order; when it fails, it fails for all of them.
   * @param options.gatherMs how long the first one of a batch waits for others, where nobody waits for the result. Default not at
   * all.
   * @param options.bytesOf how large an item is, where they differ much.
   */
  constructor(
    work: (items: readonly Item[]) => Promise<readonly Result[]>,
    { gatherMs = 0, bytesOf = () => 0 }: { gatherMs?: number; bytesOf?: (item: Item) => number } = {},
  ) {
    this.#work = work;
    this.#gatherMs = gatherMs;
    this.#bytesOf = bytesOf;
  }

  /** How many wait for the next batch. */
  get waiting(): number {
    return this.#waiting.length;
  }

  run(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#running) void this.#drain();
    });
  }

  async #drain(): Promise<void> {
    this.#running = true;
    while (this.#waiting.length > 0) {
      if (this.#gatherMs > 0) await delay(this.#gatherMs);
      else for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      const batch = this.#next();
      try {
        const results = await this.#work(batch.map(({ item }) => item));
        for (const [index, { resolve }] of batch.entries()) resolve(results[index] as Result);
      } catch (error) {
        if (batch.length > 1 && isDataError(error)) await this.#oneByOne(batch);
        else for (const { reject } of batch) reject(error);
      }
    }
    this.#running = false;
  }

  /** As many as go together, and one at least. */
  #next(): Waiting<Item, Result>[] {
    let bytes = 0;
    let count = 0;
    for (const { item } of this.#waiting) {
      bytes += this.#bytesOf(item);
      if (count > 0 && (count === largest || bytes > largestBytes)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  /** One of them holds something the database cannot store. The others have nothing to do with it. */
  async #oneByOne(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    for (const { item, resolve, reject } of batch) {
      try {
        const [result] = await this.#work([item]);
        resolve(result as Result);
      } catch (error) {
        reject(error);
      }
    }
  }
}

/** SQLSTATE classes 22 and 54: the values are wrong or too large, and not the database. */
const isDataError = (error: unknown): boolean =>
  isMailError(error) && typeof error.details.reason === 'string' && /^(?:22|54)/.test(error.details.reason);
