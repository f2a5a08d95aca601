import type { Connection } from '@flowpost/core';
import { connectionTarget } from '@flowpost/transport';
import type { Queryable } from '../database/database.ts';
import { laneOf } from './lane.ts';

/** As long as the minute of the limit, and a little more: what leaves late may be closer to what follows. */
const minuteMs = 61_000;

/**
 * How many may go at once after a pause, and how far apart the others are, in milliseconds; such that in any 60 seconds there are
 * no more than the limit.
 */
function paceOf(limit: number): { readonly burst: number; readonly everyMs: number } {
  const burst = Math.floor(limit / 10);
  return { burst, everyMs: minuteMs / (limit - burst) };
}

/** Nobody waits longer for a turn, in milliseconds, but who says so. */
export const longestTurnMs = 90_000;
/**
 * The next turn. One that lies further off than anybody takes turns was taken before the clock was set back, and says nothing. $2 is
 * how far apart turns are, $3 how long one waits.
 */
const nextTurn = `case when slot.next_at > now() + (greatest(${longestTurnMs}, $3::float8) + $2::float8) * interval '1 millisecond'
  then now() else slot.next_at end`;

/**
 * What a turn is for. Of an attempt: it waits for that without a session. Of a message: that leaves now. Turns of attempts alone keep
 * no limit, because what comes between them and their messages, like a server that stands still, makes some leave together;
 * and an attempt may become several messages.
 */
export type TurnOf = 'attempt' | 'message';

export interface Turn {
  readonly waitMs: number;
  readonly everyMs: number;
}

/** How many messages may leave in any 60 seconds. */
export const limitOf = (connection: Connection): number | undefined =>
  connectionTarget(connection).limits.messagesPerMinute;

/** Rate limits that all processes keep together, as turns in the database. */
export class SharedRate {
  readonly #database: Queryable;

  constructor(database: Queryable) {
    this.#database = database;
  }

  /**
   * Takes the next turn, when that is near enough to be waited for.
   *
   * @returns how long it is off and how far apart turns are, in milliseconds; when it is off for more than `atMostMs`, it was not
   * taken.
   */
  async take(connection: Connection, atMostMs: number, of: TurnOf): Promise<Turn> {
    const limit = limitOf(connection);
    if (limit === undefined) return { waitMs: 0, everyMs: 0 };
    const key = `${laneOf(connection)} ${of}`;
    const { burst, everyMs } = paceOf(limit);
    // The next turn may lie in the past, as far as turns that nobody took may be taken later.
    const [taken] = await this.#database.query<{ wait: number }>(
      `insert into flowpost.rate_slots as slot (key, next_at) values ($1, now() - ($4::float8 - 1) * $2::float8 * interval '1 millisecond')
       on conflict (key) do update
         set next_at = greatest(now() - $4::float8 * $2::float8 * interval '1 millisecond', ${nextTurn}) + $2::float8 * interval '1 millisecond'
         where ${nextTurn} <= now() + $3 * interval '1 millisecond'
       returning (extract(epoch from next_at - now()) * 1000 - $2::float8)::float8 as wait`,
      [key, everyMs, atMostMs, burst],
    );
    if (taken) return { waitMs: Math.max(0, taken.wait), everyMs };
    const [slot] = await this.#database.query<{ wait: number }>(
      `select (extract(epoch from ${nextTurn} - now()) * 1000)::float8 as wait from flowpost.rate_slots as slot where key = $1`,
      [key, everyMs, atMostMs],
    );
    return { waitMs: Math.max(atMostMs + 1, slot?.wait ?? 0), everyMs };
  }
}
