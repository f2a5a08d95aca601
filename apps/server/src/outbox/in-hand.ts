import type { ClaimedDelivery } from './delivery.ts';

/** One attempt at a delivery. */
export type Attempt = Pick<ClaimedDelivery, 'id' | 'attempt'>;

/**
 * Which deliveries this process is at. When the database was asked to give it some and did not answer, it may have given them all
 * the same: those are under its name, and nobody is at them.
 */
export class InHand {
  /** By attempt and id: one that was taken for dead may be at a delivery once more. */
  readonly #attempts = new Map<string, Attempt>();
  #mayHaveMore = false;

  get attempts(): Attempt[] {
    return [...this.#attempts.values()];
  }

  /** Whether there may be some under its name that it is not at. */
  get mayHaveMore(): boolean {
    return this.#mayHaveMore;
  }

  take({ id, attempt }: Attempt): void {
    this.#attempts.set(`${attempt} ${id}`, { id, attempt });
  }

  release({ id, attempt }: Attempt): void {
    this.#attempts.delete(`${attempt} ${id}`);
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
