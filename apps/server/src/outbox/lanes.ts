/**
 * What each lane has under way, and which ones should get nothing more at the moment. One slow server must not keep all the
 * others waiting, yet a lane that is alone may have nearly everything: so each may have as many, and as much, as are free.
 */
export class Lanes {
  readonly #running = new Map<string, { count: number; bytes: number }>();
  readonly #awayUntil = new Map<string, number>();

  begin(lane: string, bytes: number): void {
    const its = this.#running.get(lane) ?? { count: 0, bytes: 0 };
    this.#running.set(lane, { count: its.count + 1, bytes: its.bytes + bytes });
  }

  end(lane: string, bytes: number): void {
    const its = this.#running.get(lane) ?? { count: 1, bytes };
    if (its.count > 1) this.#running.set(lane, { count: its.count - 1, bytes: its.bytes - bytes });
    else this.#running.delete(lane);
  }

  /** Its rate limit is used up for so long, in milliseconds. */
  away(lane: string, waitMs: number): void {
    this.#awayUntil.set(lane, performance.now() + waitMs);
  }

  /** The lanes of which nothing should be taken while so many, and so much, are free. */
  closed(free: number, freeBytes: number): string[] {
    const now = performance.now();
    for (const [lane, until] of this.#awayUntil) if (until <= now) this.#awayUntil.delete(lane);
    const full = [...this.#running]
      .filter(([, { count, bytes }]) => count >= free || bytes >= freeBytes)
      .map(([lane]) => lane);
    return [...new Set([...full, ...this.#awayUntil.keys()])];
  }
}
