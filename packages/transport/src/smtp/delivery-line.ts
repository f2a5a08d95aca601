import { SessionDropped } from './transaction.ts';

/** When the answer to the message before takes longer than this, another session is better for the next. */
const patienceMs = 5_000;

/** One message's place in the line of a session. */
export class Place {
  readonly #line: DeliveryLine;
  /** The message before, while it has no answer. */
  #before: Place | undefined;
  #onLeft: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(line: DeliveryLine, before: Place | undefined) {
    this.#line = line;
    this.#before = before;
  }

  /** Whether the message before has no answer yet. */
  get waiting(): boolean {
    return this.#before !== undefined;
  }

  /**
   * Waits until the message before has its answer.
   *
   * @throws SessionDropped when that takes too long, or after `withdraw`.
   */
  turn(): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        if (this.#line.broken) reject(new SessionDropped('the message before has no answer'));
        else resolve();
      };
      this.#timer = setTimeout(() => {
        this.withdraw();
        end();
      }, patienceMs);
      if (this.#before) this.#before.#onLeft = () => this.#advance(end);
    });
  }

  #advance(end: () => void): void {
    clearTimeout(this.#timer);
    this.#before = undefined;
    end();
  }

  /** Goes away before its turn. The server will wait for a message then that does not come. */
  withdraw(): void {
    clearTimeout(this.#timer);
    this.#line.broken = true;
  }

  /** Makes room for the next, whatever came of this one. */
  leave(): void {
    // Whoever leaves before his turn leaves the line to the one before him.
    this.#line.leave(this, this.#before);
    const onLeft = this.#onLeft;
    // A chain from each message to the next would keep all of them in memory.
    this.#onLeft = undefined;
    onLeft?.();
  }
}

/**
 * The messages of one session. The server answers them one at a time, and meanwhile the next may have said its envelope
 * already (RFC 2920 section 3.1): its answer comes with the one to the message before.
 */
export class DeliveryLine {
  #last: Place | undefined;
  /** Somebody went away who had said an envelope, so that nothing can follow what is under way. */
  broken = false;

  join(): Place {
    this.#last = new Place(this, this.#last);
    return this.#last;
  }

  leave(place: Place, before: Place | undefined): void {
    if (this.#last === place) this.#last = before;
  }
}
