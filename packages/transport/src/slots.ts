/** So many at once and no more; the others wait their turn. */
export class Slots {
  readonly #limit: number;
  /** Served in turn, each when a slot has become free for it. */
  readonly #waiting: { readonly grant: () => void; readonly refuse: (reason: unknown) => void }[] = [];
  #taken = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Takes a slot, at once or when another one is freed; rejects with the signal's reason. */
  async take(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#taken < this.#limit) {
      this.#taken++;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const settle = (end: () => void): void => {
        signal?.removeEventListener('abort', onAbort);
        end();
      };
      const one = {
        grant: () => settle(resolve),
        refuse: (reason: unknown) => settle(() => reject(reason)),
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(one), 1);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(one);
    });
  }

  /** Sends everybody away who waits, each with a reason of his own. */
  refuseWaiting(reason: () => unknown): void {
    for (const { refuse } of this.#waiting.splice(0)) refuse(reason());
  }

  /** The slot passes to who waits longest, or becomes free. */
  free(): void {
    const next = this.#waiting.shift();
    if (next) next.grant();
    else this.#taken--;
  }
}
