import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { longestTimerMs, MailError, type SendOptions, type SendReceipt } from '@flowpost/core';

const defaultDeadlineMs = 30_000;
const graceMs = 5_000;

/** The sends of one sender that are under way: taken in until it closes, waited for then, and ended at its deadline. */
export class InFlight {
  readonly #sending = new Set<Promise<SendReceipt>>();
  readonly #ending = new AbortController();
  readonly #deadlineMs: number;
  #closed = false;

  constructor(closeDeadlineMs = defaultDeadlineMs) {
    this.#deadlineMs = closeDeadlineMs;
    setMaxListeners(0, this.#ending.signal);
  }

  /**
   * Runs one send with the signal that ends it: the caller's, the time allowed, or the sender's closing.
   *
   * @throws MailError `SENDER_CLOSED`, or what `work` throws.
   */
  async run(
    { signal, timeoutMs }: SendOptions,
    work: (signal: AbortSignal) => Promise<SendReceipt>,
  ): Promise<SendReceipt> {
    if (this.#closed) throw new MailError('SENDER_CLOSED', 'The sender has been closed.');
    const late = timeoutMs === undefined ? [] : [AbortSignal.timeout(Math.min(timeoutMs, longestTimerMs))];
    const all = [...(signal ? [signal] : []), ...late, this.#ending.signal];
    const sending = work(all.length === 1 ? this.#ending.signal : AbortSignal.any(all));
    this.#sending.add(sending);
    try {
      return await sending;
    } finally {
      this.#sending.delete(sending);
    }
  }

  /** Takes no more, waits for what is under way, and ends it when that takes too long. */
  async close(): Promise<void> {
    this.#closed = true;
    const timer = setTimeout(() => this.#ending.abort(new Error('the sender was closed')), this.#deadlineMs);
    const settled = Promise.allSettled(this.#sending);
    // What does not even end when it is told to is left to itself in the end.
    const given = delay(this.#deadlineMs + graceMs, undefined, { ref: false });
    await Promise.race([settled, given]);
    clearTimeout(timer);
  }
}
