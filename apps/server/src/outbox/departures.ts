import { type Clock, systemClock } from '@flowpost/core';
import { Batcher } from '../database/batcher.ts';

/** In whose lane a delivery is that leaves. */
export interface Departing {
  readonly lane: string;
}

/** A lane whose messages take less than this, in milliseconds, would wait for the database longer than for its server. */
const promptMs = 5;
/** For how long it holds what was written down ahead: a process that stood still for longer may have been taken for dead. */
const freshMs = 1_000;

interface Ahead {
  readonly written: Promise<boolean>;
  readonly at: number;
}

interface Lane<Claim> {
  /** Those that will leave, in the order in which their turn comes. */
  readonly waiting: Set<Claim>;
  /** Those of whom it is written down before it is their turn. */
  readonly ahead: Map<Claim, Ahead>;
  /** Those whose turn it is, and since when they leave. */
  readonly leaving: Map<Claim, number | undefined>;
  /** How long the last one took to leave, in milliseconds. */
  tookMs: number;
}

/**
 * Writes down, before a message leaves, that it does; for many at once where many leave. Where messages leave faster than the
 * database answers, it is written down for the next ones as well, one for each that is leaving and no more: should the process end
 * now, they are in doubt though they have not left.
 */
export class Departures<Claim extends Departing> {
  readonly #writes: Batcher<Claim, boolean>;
  readonly #writesAhead: boolean;
  readonly #clock: Clock;
  readonly #lanes = new Map<string, Lane<Claim>>();

  /**
   * @param write says for each whether it is still this process's.
   * @param options.writesAhead not for a database that does one thing at a time: it would take others' turns away.
   */
  constructor(
    write: (claims: readonly Claim[]) => Promise<boolean[]>,
    { writesAhead, clock = systemClock }: { readonly writesAhead: boolean; readonly clock?: Clock },
  ) {
    this.#writesAhead = writesAhead;
    this.#clock = clock;
    this.#writes = new Batcher(write);
  }

  /** It waits for its turn from now on. */
  enter(claim: Claim): void {
    const lane = this.#lanes.get(claim.lane);
    if (lane) lane.waiting.add(claim);
    else {
      this.#lanes.set(claim.lane, {
        ...{ waiting: new Set([claim]), ahead: new Map(), leaving: new Map() },
        tookMs: Number.POSITIVE_INFINITY,
      });
    }
  }

  /**
   * It is its turn.
   *
   * @returns whether it may leave: it is written down that it does, and still this process's.
   */
  async begin(claim: Claim): Promise<boolean> {
    const lane = this.#lanes.get(claim.lane);
    if (!lane) return this.#writes.run(claim);
    const ahead = lane.ahead.get(claim);
    lane.ahead.delete(claim);
    lane.waiting.delete(claim);
    lane.leaving.set(claim, undefined);
    const isFresh = ahead && this.#clock.monotonic() - ahead.at < freshMs;
    const written = isFresh ? ahead.written : this.#writes.run(claim);
    this.#writeAhead(lane);
    const isMine = await written;
    // It may have ended meanwhile.
    if (isMine && lane.leaving.has(claim)) lane.leaving.set(claim, this.#clock.monotonic());
    return isMine;
  }

  #writeAhead({ waiting, ahead, leaving, tookMs }: Lane<Claim>): void {
    if (!this.#writesAhead || tookMs > promptMs) return;
    for (const claim of waiting) {
      if (ahead.size >= leaving.size) return;
      waiting.delete(claim);
      const written = this.#writes.run(claim);
      // Whoever begins it hears of that.
      written.catch(() => undefined);
      ahead.set(claim, { written, at: this.#clock.monotonic() });
    }
  }

  /** It has left, or will not. */
  end(claim: Claim): void {
    const lane = this.#lanes.get(claim.lane);
    if (!lane) return;
    const since = lane.leaving.get(claim);
    if (since !== undefined) lane.tookMs = this.#clock.monotonic() - since;
    lane.leaving.delete(claim);
    lane.ahead.delete(claim);
    lane.waiting.delete(claim);
    if (lane.waiting.size + lane.ahead.size + lane.leaving.size === 0) this.#lanes.delete(claim.lane);
  }
}
