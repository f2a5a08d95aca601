import { setTimeout as delay } from 'node:timers/promises';
import {
  type Connection,
  copyMailError,
  isMailError,
  type Logger,
  linkAbort,
  type MailError,
  parseMessage,
  type SendReceipt,
  toMailError,
} from '@flowpost/core';
import { deliver, type FlowScope, parseFlowData } from '@flowpost/node-adapter';
import { connectionFingerprint, continuedReceipt } from '@flowpost/transport';
import { type ConnectionStore, connectionDeleted } from '../connections/connection-store.ts';
import { Batcher } from '../database/batcher.ts';
import { type Queryable, storageReason } from '../database/database.ts';
import type { Metrics } from '../observability/metrics.ts';
import { traced } from '../observability/tracing.ts';
import type { ClaimedDelivery, Settlement } from './delivery.ts';
import type { DeliveryStore } from './delivery-store.ts';
import { Departures } from './departures.ts';
import { ContinuedDuplicateStore, DatabaseDuplicateStore, inOtherHands } from './duplicate-store.ts';
import { ended } from './ended.ts';
import type { InHand } from './in-hand.ts';
import { judge, settlementOf } from './judgement.ts';
import { limitOf, type SharedRate } from './shared-rate.ts';
import { tell } from './tell.ts';
import { TurnAway, Turns } from './turns.ts';
import { WaitingLines } from './waiting-lines.ts';

export interface RunnerOptions {
  readonly database: Queryable;
  readonly deliveries: DeliveryStore;
  readonly connections: ConnectionStore;
  readonly scope: FlowScope;
  readonly rate: SharedRate;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Who claims: one for each process and start. */
  readonly worker: string;
  readonly inHand: InHand;
  /** Deliveries under way at once. */
  readonly concurrency: number;
  /** Whether messages that leave fast are written down before their turn; see `Departures`. */
  readonly writesAhead: boolean;
  /** How long a delivery is tried, in milliseconds. */
  readonly retryForMs: number;
  /** Ends what is under way, because there is no more time. */
  readonly cut: AbortSignal;
}

/** A connection is looked up again after this, in milliseconds. */
const staleMs = 2_000;
/** How long outcomes are gathered, so that one transaction is for many. */
const gatherMs = 5;

/** The same connection is another object wherever it was sealed anew. */
const isSame = (one: Connection, other: Connection): boolean =>
  one === other || connectionFingerprint(one) === connectionFingerprint(other);

/** Whether somebody has taken a delivery out of the outbox, and it did not end for another reason. */
const isCancelled = ({ signal }: AbortController): boolean => isMailError(signal.reason);

/** Sends one claimed delivery: writes down that it is about to leave, sends it, and writes down how that ended. */
export class DeliveryRunner {
  readonly #options: RunnerOptions;
  readonly #departures: Departures<ClaimedDelivery>;
  readonly #lines = new WaitingLines();
  readonly #turns: Turns;
  /** Those under way, and what ends each of them. One that was taken for dead may be at a delivery twice. */
  readonly #underWay = new Set<{ readonly id: string; readonly ending: AbortController }>();
  readonly #settlements: Batcher<Settlement, undefined>;
  /** For those whose outcome nobody waits for. */
  readonly #later: Batcher<Settlement, undefined>;

  constructor(options: RunnerOptions) {
    const { deliveries, worker } = options;
    this.#options = options;
    this.#turns = new Turns(options);
    this.#departures = new Departures((claims) => deliveries.commit(claims, worker), {
      writesAhead: options.writesAhead,
    });
    const settle = async (all: readonly Settlement[]): Promise<undefined[]> => {
      await deliveries.settle(all, worker);
      return all.map(() => undefined);
    };
    this.#settlements = new Batcher(settle);
    this.#later = new Batcher(settle, { gatherMs });
  }

  /**
   * Sends a delivery once.
   *
   * @param keepsTrying whether a failure that may pass puts it back into the queue. Not for whoever waits for the outcome.
   * @param onTurnAway told how long it is to the next turn of this lane, in milliseconds, when the delivery went back into the queue.
   * @param stopping ends waiting for a turn: the delivery goes back into the queue.
   */
  async run(
    claim: ClaimedDelivery,
    {
      keepsTrying,
      onTurnAway,
      stopping,
    }: {
      readonly keepsTrying: boolean;
      readonly onTurnAway?: (waitMs: number) => void;
      readonly stopping?: AbortSignal;
    },
  ): Promise<SendReceipt> {
    const { metrics, logger, inHand, retryForMs, cut } = this.#options;
    const started = performance.now();
    inHand.take(claim);
    try {
      const receipt = await traced(
        'flowpost.deliver',
        { 'flowpost.delivery': claim.id, 'flowpost.node': claim.nodeType },
        () => this.#send(claim, stopping),
      );
      const settlement = settlementOf(claim, receipt, { keepsTrying, retryForMs });
      await this.#settle(claim, settlement);
      const { state, uncounted = false } = settlement;
      if (state === 'queued' && !uncounted) metrics.failed('RECIPIENTS_DEFERRED', 'envelope', state);
      if (state === 'in-doubt') metrics.failed('DELIVERY_IN_DOUBT', 'confirm', state);
      else if (state !== 'queued') metrics.delivered(receipt.status, (performance.now() - started) / 1_000);
      return receipt;
    } catch (thrown) {
      if (thrown instanceof TurnAway && keepsTrying) {
        onTurnAway?.(thrown.waitMs);
        await this.#postpone(
          claim,
          this.#lines.place(claim.lane, Date.now() + thrown.waitMs, thrown.everyMs),
        );
        throw thrown.error;
      }
      const failure = toMailError(thrown instanceof TurnAway ? thrown.error : thrown);
      const isGoingDown = cut.aborted;
      // Whoever waits has cancelled nothing, and another server may send it.
      const isLeft = isGoingDown && !keepsTrying && failure.category === 'cancelled' && !failure.inDoubt;
      const error = isLeft && failure.code !== 'DELIVERY_CANCELLED' ? copyMailError(ended) : failure;
      const settlement = judge(claim, error, { keepsTrying, retryForMs, isGoingDown });
      await this.#settle(claim, settlement);
      const { code, phase, inDoubt } = error;
      const attempt = { delivery: claim.id, attempt: claim.tries, code, phase, inDoubt };
      // What becomes of it now is not for this process to say.
      if (code === 'DELIVERY_CANCELLED') logger.warn('delivery is in other hands', attempt);
      else {
        metrics.failed(code, phase, settlement.state);
        logger.warn('delivery failed', { ...attempt, state: settlement.state });
      }
      throw error;
    } finally {
      inHand.release(claim);
    }
  }

  /** Somebody has taken it out of the outbox: nothing more need be done for it. */
  cancel(id: string): void {
    for (const one of this.#underWay) if (one.id === id) one.ending.abort(inOtherHands());
  }

  /** Puts a claimed delivery back, untried. */
  async #postpone(claim: ClaimedDelivery, nextAt: number): Promise<void> {
    await this.#settle(claim, {
      id: claim.id,
      attempt: claim.attempt,
      state: 'queued',
      nextAt,
      uncounted: true,
      keepsPlace: true,
    });
  }

  async #send(claim: ClaimedDelivery, stopping: AbortSignal | undefined): Promise<SendReceipt> {
    const ending = new AbortController();
    const unlink = linkAbort(this.#options.cut, ending);
    const underWay = { id: claim.id, ending };
    this.#underWay.add(underWay);
    try {
      return await this.#sendUntil(ending, claim, stopping);
    } catch (error) {
      throw isCancelled(ending) ? inOtherHands() : error;
    } finally {
      unlink();
      this.#underWay.delete(underWay);
      ending.abort();
    }
  }

  /** Waits until it may be tried. @returns for how long, in milliseconds. */
  async #turnOf(
    connection: Connection,
    claim: ClaimedDelivery,
    ...ends: (AbortSignal | undefined)[]
  ): Promise<number> {
    if (limitOf(connection) === undefined) return 0;
    const waiting = new AbortController();
    const unlinks = ends.map((end) => linkAbort(end, waiting));
    try {
      return await this.#turns.ofAttempt(connection, claim, waiting.signal);
    } finally {
      for (const unlink of unlinks) unlink();
    }
  }

  async #sendUntil(
    ending: AbortController,
    claim: ClaimedDelivery,
    stopping: AbortSignal | undefined,
  ): Promise<SendReceipt> {
    const { connections, database, scope } = this.#options;
    const { request, sealed, isStored, mode } = claim;
    if (sealed === null) throw connectionDeleted();
    const claimed = await connections.unseal(sealed, { isStored });
    const { policy } = request;
    const waitedMs = await this.#turnOf(claimed, claim, ending.signal, stopping);
    if (isCancelled(ending)) throw inOtherHands();
    // Who waited for long waited for a connection that may have been changed or deleted.
    const connection = isStored && waitedMs > staleMs ? await connections.ofDelivery(claim.id) : claimed;
    const { again } = claim;
    const retry = mode === 'async' ? { ...policy.retry, attempts: 1 } : policy.retry;
    const whole = (receipt: SendReceipt): SendReceipt => ({
      ...(again ? continuedReceipt(again.delivered, again.to, receipt) : receipt),
      attempts: receipt.attempts + claim.tries - 1,
    });
    const prepared = {
      connection,
      message: parseMessage({ ...request.message, messageId: claim.messageId }),
      // In the outbox, trying again is a matter of hours and survives this process.
      policy: {
        ...policy,
        // Whoever waits for the outcome has waited for the turn as well.
        ...(policy.timeoutMs !== undefined &&
          mode === 'sync' && { timeoutMs: Math.max(1, Math.ceil(policy.timeoutMs - waitedMs)) }),
        retry,
        ...(mode === 'async' && { onDoubt: 'hold' as const }),
      },
      ...(request.unshared && { session: 'unshared' as const }),
    };
    const held = { ...claim, worker: this.#options.worker };
    const duplicateStore = again
      ? new ContinuedDuplicateStore(database, held, whole)
      : new DatabaseDuplicateStore(database, held, { keeps: claim.doubt !== undefined });
    const readAt = performance.now();
    let away: TurnAway | undefined;
    const beforeData = async (): Promise<void> => {
      away = undefined;
      await this.#turns.ofMessage(connection, claim, ending.signal).catch((error) => {
        if (error instanceof TurnAway) away = error;
        throw away?.error ?? error;
      });
      // One may wait for a session for long as well.
      const isStale = isStored && performance.now() - readAt > staleMs;
      if (isStale && !isSame(connection, await connections.ofDelivery(claim.id))) {
        away = TurnAway.forChange();
        throw away.error;
      }
      // Its time may have ended while the turn was asked for.
      if (ending.signal.aborted) throw inOtherHands();
      await this.#commit(claim);
    };
    // What waits for its turn may wait for long, and is not written down as leaving for that long.
    if (limitOf(connection) === undefined) this.#departures.enter(claim);
    try {
      const receipt = await deliver(prepared, {
        nodeId: claim.nodeId,
        flow: parseFlowData(request.trigger === undefined ? {} : { trigger: request.trigger }),
        scope: { ...scope, duplicateStore },
        onlyTo: again?.to,
        signal: ending.signal,
        duplicateWaitMs: mode === 'async' ? 0 : undefined,
        keepsRest: mode === 'async',
        beforeData,
      });
      if (receipt.status !== 'duplicate') return whole(receipt);
      // It was sent by this delivery, whose process ended before it could say so.
      const isPartial = receipt.rejected.length > 0;
      return duplicateStore.hasOwn ? { ...receipt, status: isPartial ? 'partial' : 'sent' } : receipt;
    } catch (error) {
      throw away?.error.code === (error as MailError).code ? away : error;
    } finally {
      this.#departures.end(claim);
    }
  }

  async #commit(claim: ClaimedDelivery): Promise<void> {
    if (await this.#departures.begin(claim)) return;
    throw inOtherHands();
  }

  /**
   * What happened has happened, whether or not the database can be told: this goes on until it can, because the only other end is
   * a delivery in doubt that is none.
   */
  async #settle({ mode }: ClaimedDelivery, settlement: Settlement): Promise<void> {
    const batch = mode === 'async' ? this.#later : this.#settlements;
    const { cut } = this.#options;
    for (let waitMs = 100; ; waitMs = Math.min(waitMs * 2, 5_000)) {
      try {
        await tell(cut, () => batch.run(settlement));
        return;
      } catch (error) {
        const { code } = error as { code?: string };
        this.#options.logger.error('the database cannot be told how a delivery ended', {
          ...{ delivery: settlement.id, code, ...storageReason(error) },
        });
        // Left as it is: whoever takes over calls it in doubt, which from here it is.
        if (cut.aborted) return;
        await delay(waitMs, undefined, { signal: cut }).catch(() => undefined);
      }
    }
  }
}
