import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { linkAbort, longestTimerMs, MailError, type SendOptions, type SendReceipt } from '@flowpost/core';
import { timeLimit } from './abortable.ts';

const defaultDeadlineMs = 30_000;
const graceMs = 5_000;
/**
 * So many sends share what ends them. A signal of its own for each costs more, and one for all keeps what its listeners
 * held for longer than they are there: each listener that went away still points to those that came after it.
 */
const togetherAtMost = 50;

const boundedMs = (ms: number): number => Math.min(Math.max(0, ms || 0), longestTimerMs - graceMs);

/** Sends that are ended together. */
interface Group {
  readonly ending: AbortController;
  taken: number;
  sending: number;
}

/** The sends of one sender that are under way: taken in until it closes, waited for then, and ended at its deadline. */
export class InFlight {
  readonly #groups = new Set<Group>();
  #group: Group | undefined;
  readonly #closeDeadlineMs: number | (() => number);
  #onIdle: (() => void) | undefined;
  #closed = false;

  constructor(closeDeadlineMs: number | (() => number) = defaultDeadlineMs) {
    this.#closeDeadlineMs = closeDeadlineMs;
  }

  /** How many sends are under way. */
  get count(): number {
    let count = 0;
    for (const { sending } of this.#groups) count += sending;
    return count;
  }

  #join(): Group {
    const last = this.#group;
    if (last && last.taken < togetherAtMost) return last;
    if (last?.sending === 0) this.#groups.delete(last);
    const ending = new AbortController();
    setMaxListeners(0, ending.signal);
    this.#group = { ending, taken: 0, sending: 0 };
    this.#groups.add(this.#group);
    return this.#group;
  }

  #leave(group: Group): void {
    if (--group.sending > 0) return;
    if (group === this.#group && !this.#closed) return;
    this.#groups.delete(group);
    if (this.#groups.size === 0) this.#onIdle?.();
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
    const group = this.#join();
    group.taken++;
    group.sending++;
    try {
      if (!signal && timeoutMs === undefined) return await work(group.ending.signal);
      const late = timeLimit(timeoutMs);
      // Linked by hand, which costs less than a signal made of several (AbortSignal.any).
      const ending = new AbortController();
      const links = [group.ending.signal, signal, late].map((one) => linkAbort(one, ending));
      try {
        return await work(ending.signal);
      } finally {
        for (const unlink of links) unlink();
      }
    } finally {
      this.#leave(group);
    }
  }

  /** Takes no more, waits for what is under way, and ends it when that takes too long. */
  async close(): Promise<void> {
    this.#closed = true;
    const wanted = this.#closeDeadlineMs;
    // A timer that is longer ends at once.
    const deadlineMs = boundedMs(typeof wanted === 'number' ? wanted : wanted());
    if (this.#group?.sending === 0) this.#groups.delete(this.#group);
    if (this.#groups.size === 0) return;
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
    const timer = setTimeout(() => {
      for (const { ending } of this.#groups) ending.abort(new Error('the sender was closed'));
    }, deadlineMs);
    // What does not even end when it is told to is left to itself in the end.
    const given = delay(deadlineMs + graceMs, undefined, { ref: false });
    await Promise.race([idle, given]);
    clearTimeout(timer);
  }
}
