/**
 * Which deliveries this process is at. When the database was asked to give it some and did not answer, it may have given them all
 * the same: those are under its name, and nobody is at them.
 */
export class InHand {
  readonly #ids = new Set<string>();
  #mayHaveMore = false;

  get ids(): string[] {
    return [...this.#ids];
  }

  /** Whether there may be some under its name that it is not at. */
  get mayHaveMore(): boolean {
    return this.#mayHaveMore;
  }

  take(id: string): void {
    this.#ids.add(id);
  }

  release(id: string): void {
    this.#ids.delete(id);
  }

  /** An answer was lost, or it is time to look whether one was. */
  suspect(): void {
    this.#mayHaveMore = true;
  }

  /** They were given back. */
  settled(): void {
    this.#mayHaveMore = false;
  }
}
