/**
 * What each lane has under way, and which ones should get nothing more at the moment. One slow server must not keep all the
 * others waiting, yet a lane that is alone may have nearly everything: so each may have as many as are free.
 */
export class Lanes {
  readonly #running = new Map<string, number>();
  readonly #awayUntil = new Map<string, number>();

  begin(lane: string): void {
    this.#running.set(lane, (this.#running.get(lane) ?? 0) + 1);
  }

  end(lane: string): void {
    const left = (this.#running.get(lane) ?? 1) - 1;
    if (left > 0) this.#running.set(lane, left);
    else this.#running.delete(lane);
  }

  /** Its rate limit is used up until then, in Unix milliseconds. */
  away(lane: string, until: number): void {
    this.#awayUntil.set(lane, until);
  }

  /** The lanes of which nothing should be taken while so many are free. */
  closed(free: number, now = Date.now()): string[] {
    for (const [lane, until] of this.#awayUntil) if (until <= now) this.#awayUntil.delete(lane);
    const full = [...this.#running].filter(([, running]) => running >= free).map(([lane]) => lane);
    return [...new Set([...full, ...this.#awayUntil.keys()])];
  }
}
