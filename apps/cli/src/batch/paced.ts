import { setTimeout as delay } from 'node:timers/promises';

/** How far behind its time one may be and still catch up, in milliseconds: timers are late, and a burst is no rate. */
const lateMs = 50;

/** Hands things over no faster than at a rate, evenly. */
export async function* paced<Item>(
  items: AsyncIterable<Item>,
  everyMs: number,
  signal: AbortSignal,
): AsyncGenerator<Item, void, undefined> {
  let at = performance.now();
  for await (const item of items) {
    const wait = at - performance.now();
    if (wait > 0) await delay(wait, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    at = Math.max(at, performance.now() - lateMs) + everyMs;
    yield item;
  }
}
