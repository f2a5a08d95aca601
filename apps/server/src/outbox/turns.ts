import { setTimeout as delay } from 'node:timers/promises';
import { type Connection, MailError } from '@flowpost/core';
import type { ClaimedDelivery } from './delivery.ts';
import { longestTurnMs, type SharedRate, type TurnOf } from './shared-rate.ts';

export interface TurnsOptions {
  readonly rate: SharedRate;
  /** Deliveries under way at once. */
  readonly concurrency: number;
  /** Ends what is under way, because there is no more time. */
  readonly cut: AbortSignal;
}

/** Further off than this, a turn is not waited for: the delivery goes back into the queue. In milliseconds. */
const longestWaitMs = 2_000;
/** Who waits for the outcome waits this long for a turn as well, in milliseconds. */
const longestSyncWaitMs = 60_000;
/**
 * Of some lanes one small delivery each waits even longer: otherwise those who wait for outcomes would have all the turns. Only of
 * some, and small ones, because what waits here takes room and memory from others.
 */
const shareInLine = 1 / 10;
const smallBytes = 256 * 1_024;

type Waiting = Pick<ClaimedDelivery, 'lane' | 'bytes' | 'mode' | 'request'>;

/** Waits for the turns of a rate limit, which all processes take from one place. */
export class Turns {
  readonly #options: TurnsOptions;
  /** The lanes of which one waits for a turn that is further off. */
  readonly #inLine = new Set<string>();

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /**
   * Waits until a delivery may be tried.
   *
   * @param ended ends the wait.
   * @returns for how long it waited, in milliseconds.
   * @throws TurnAway
   */
  async ofAttempt(connection: Connection, claim: Waiting, ended: AbortSignal): Promise<number> {
    const { lane, bytes, mode } = claim;
    if (mode === 'sync') return this.#take('attempt', connection, syncWaitMs(claim), ended);
    const { concurrency } = this.#options;
    const room = concurrency > 1 ? Math.max(1, Math.floor(concurrency * shareInLine)) : 0;
    const hasRoom = this.#inLine.size < room;
    if (!hasRoom || bytes > smallBytes || this.#inLine.has(lane))
      return this.#take('attempt', connection, longestWaitMs, ended);
    // It waits for longer than those who wait for an outcome, who take the turns that are near.
    this.#inLine.add(lane);
    try {
      return await this.#take('attempt', connection, longestTurnMs, ended);
    } finally {
      this.#inLine.delete(lane);
    }
  }

  /**
   * Waits until a message may leave. Turns come as often as for attempts, so it waits only for one that is late.
   *
   * @param ended ends the wait, because whoever waited has ended.
   * @throws TurnAway
   */
  async ofMessage(connection: Connection, claim: Waiting, ended: AbortSignal): Promise<void> {
    const atMostMs = claim.mode === 'sync' ? syncWaitMs(claim) : longestWaitMs;
    await this.#take('message', connection, atMostMs, ended);
  }

  async #take(of: TurnOf, connection: Connection, atMostMs: number, ended: AbortSignal): Promise<number> {
    const { waitMs, everyMs } = await this.#options.rate.take(connection, atMostMs, of);
    if (waitMs > atMostMs) throw new TurnAway(waitMs, everyMs);
    const isDue = waitMs === 0 || (await delay(waitMs, true, { signal: ended }).catch(() => false));
    // Whose attempt is cut hears of that where it is told from a failure.
    const isCut = of === 'attempt' && this.#options.cut.aborted;
    if (!isDue && !isCut) throw new TurnAway(waitMs, everyMs);
    return waitMs;
  }
}

const usedUp = (waitMs: number): MailError =>
  new MailError('MESSAGE_DEFERRED', 'The rate limit of the connection is used up at the moment.', {
    retryable: true,
    hint: 'Nothing was sent. Try again after retryAfterMs, send with async, or raise limits.messagesPerMinute if the server takes more.',
    details: { retryAfterMs: Math.ceil(waitMs) },
  });

const syncWaitMs = ({ request }: Waiting): number =>
  Math.min(request.policy.timeoutMs ?? longestSyncWaitMs, longestSyncWaitMs);

/** The provider's limit is used up for longer than one waits for it, or one waited for something that is no more. */
export class TurnAway extends Error {
  readonly waitMs: number;
  readonly everyMs: number;
  readonly error: MailError;

  constructor(waitMs: number, everyMs: number, error = usedUp(waitMs)) {
    super('no turn');
    this.waitMs = waitMs;
    this.everyMs = everyMs;
    this.error = error;
  }

  /** The connection was changed meanwhile: it is to be tried over the new one at once. */
  static forChange(): TurnAway {
    const message = 'The connection was changed while the message waited for a session.';
    const hint = 'Nothing was sent. Send it again.';
    return new TurnAway(0, 0, new MailError('MESSAGE_DEFERRED', message, { retryable: true, hint }));
  }
}
