/**
 * How far behind the next turn a place may lie, in milliseconds. Whoever is further behind lines up again then: limits are raised, and
 * those in front are cancelled.
 */
const longestLineMs = 60_000;
/** Fewer than this are kept without looking which of them are over. */
const fewLanes = 1_000;

/**
 * When those come back who found the rate limit of their lane used up: one behind the other, as turns come. Would they all come
 * at the next turn, all but one would be put off again, each time.
 */
export class WaitingLines {
  /** When the last one in line comes, in Unix milliseconds. */
  readonly #ends = new Map<string, number>();

  /**
   * @param first when the next turn is, in Unix milliseconds.
   * @param everyMs how far apart turns are, in milliseconds.
   */
  place(lane: string, first: number, everyMs: number, now = Date.now()): number {
    const end = this.#ends.get(lane);
    const next = end === undefined ? first : Math.max(first, end + everyMs);
    const at = Math.min(next, first + longestLineMs);
    if (this.#ends.size >= fewLanes)
      for (const [one, last] of this.#ends) if (last < now) this.#ends.delete(one);
    this.#ends.set(lane, at);
    return at;
  }
}
