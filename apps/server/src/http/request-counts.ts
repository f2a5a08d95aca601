import type { FastifyRateLimitStore } from '@fastify/rate-limit';

/** So many are counted; of more, those that have asked for nothing for the longest begin anew. */
const mostKeys = 5_000;

/** Counts requests, each period anew. Periods end when they are over, also when somebody sets the clock of the machine back. */
export class RequestCounts implements FastifyRateLimitStore {
  readonly #counts = new Map<string, { current: number; readonly endsAt: number }>();

  incr(key: string, answer: Parameters<FastifyRateLimitStore['incr']>[1], periodMs: number): void {
    const now = performance.now();
    const known = this.#counts.get(key);
    const count = known && now < known.endsAt ? known : { current: 0, endsAt: now + periodMs };
    count.current++;
    this.#counts.delete(key);
    this.#counts.set(key, count);
    const [oldest = key] = this.#counts.keys();
    if (this.#counts.size > mostKeys) this.#counts.delete(oldest);
    answer(null, { current: count.current, ttl: Math.ceil(count.endsAt - now) });
  }

  child(): RequestCounts {
    return new RequestCounts();
  }
}
