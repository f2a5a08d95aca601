interface Waiter<Gift> {
  /** Takes something else than a slot too. */
  readonly takesGift: boolean;
  readonly grant: (gift?: Gift) => void;
  readonly refuse: (reason: unknown) => void;
}

/** So many at once and no more; the others wait their turn. */
export class Slots<Gift = never> {
  #limit: number;
  #withdrawn = 0;
  /** Served in turn, each when a slot has become free for it. */
  readonly #waiting: Waiter<Gift>[] = [];
  #taken = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get taken(): number {
    return this.#taken;
  }

  get full(): boolean {
    return this.#taken >= this.#limit;
  }

  /** Whether somebody waits for his turn. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /**
   * Takes a slot, at once or when another one is freed; rejects with the signal's reason.
   *
   * @param options.takesGift whether something else will do.
   * @param options.isNext whether his turn comes before that of all who wait: he had it already.
   * @returns what was given instead of a slot, if it was.
   */
  async take(
    signal?: AbortSignal,
    { takesGift = false, isNext = false }: { readonly takesGift?: boolean; readonly isNext?: boolean } = {},
  ): Promise<Gift | undefined> {
    signal?.throwIfAborted();
    if (!this.full) {
      this.#taken++;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const settle = (end: () => void): void => {
        signal?.removeEventListener('abort', onAbort);
        end();
      };
      const one: Waiter<Gift> = {
        takesGift,
        grant: (gift) => settle(() => resolve(gift)),
        refuse: (reason) => settle(() => reject(reason)),
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(one), 1);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      if (isNext) this.#waiting.unshift(one);
      else this.#waiting.push(one);
    });
  }

  /** Gives who waits longest something else than a slot; whether there was somebody who takes it. */
  give(gift: Gift): boolean {
    if (!this.#waiting[0]?.takesGift) return false;
    this.#waiting.shift()?.grant(gift);
    return true;
  }

  /** Takes a slot that was taken out of use. */
  withdraw(): void {
    this.#withdrawn++;
    this.#limit--;
    this.#taken--;
  }

  /** Puts into use again what was withdrawn. */
  restore(): void {
    this.#limit += this.#withdrawn;
    this.#withdrawn = 0;
    while (!this.full && this.hasWaiting) {
      this.#taken++;
      this.#waiting.shift()?.grant();
    }
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
