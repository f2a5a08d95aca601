import type { MailErrorJson } from '@flowpost/core';
import type { PgBoss } from 'pg-boss';
import { v7 as timeOrderedId } from 'uuid';
import { type Database, forPgBoss, type Queryable } from '../database/database.ts';
import { storable } from '../database/storable.ts';
import type { DeliveryState } from './delivery.ts';
import { eventsOfMine, eventXid } from './delivery-events.ts';
import { DeliveryReader } from './delivery-reader.ts';
import { lastsFromNow } from './duplicate-store.ts';
import type { Attempt } from './in-hand.ts';

export const queue = 'deliveries';

/** For how many deliveries a job comes at most: the fewest that a worker with the usual room asks for. */
const mostPerJob = 32;

/** How many are forgotten at once, and how large they are together: others get their turn in between, where there is one connection. In bytes. */
const mostForgotten = { pglite: 500, postgres: 5_000 };
const mostForgottenBytes = 64 * 1_048_576;

/** A job comes for deliveries of one lane that are due at the same time. */
export interface DeliveryJob {
  readonly deliveries?: readonly string[];
}

/** A delivery that waits, and when for; at once without a time. */
export interface Due {
  readonly id: string;
  readonly lane: string;
  readonly next_at: Date | null;
}

/** Ids begin with the time they were made at (UUID version 7, RFC 9562 section 5.7), so those of old deliveries are found by it. */
function firstIdOf(time: number): string {
  const hex = Math.max(0, Math.floor(time)).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

/** SQL: what the request of a delivery says of how it is sent. */
const policyOf = (path: string): string =>
  `(select r.request #>> '{policy,${path}}' from flowpost.delivery_requests r where r.id = deliveries.id)`;

/** SQL: who gets it instead of its recipients, from a process with a sandbox or by its request. */
const redirectedTo = `coalesce((select w.redirect_to from flowpost.workers w where w.id = deliveries.worker),
  ${policyOf('sandbox,redirectTo,address')})`;

/** The SQL for deliveries that nobody is at: left behind, forgotten, or of no use any more. */
export class DeliveryKeeper extends DeliveryReader {
  protected readonly boss: PgBoss;

  constructor(database: Database, boss: PgBoss) {
    super(database);
    this.boss = boss;
  }

  /**
   * Puts in the jobs that will come for deliveries, when it is time. One job for many, because in a row of its own for each a
   * queue costs the database as much as all the rest.
   *
   * @param options.isNext whether they come before all others.
   */
  protected async enqueue(
    rows: readonly Due[],
    transaction: Queryable,
    { isNext = false }: { readonly isNext?: boolean } = {},
  ): Promise<void> {
    const together = new Map<string, [Due, ...Due[]][]>();
    for (const row of rows) {
      const key = `${row.next_at?.getTime() ?? 0} ${row.lane}`;
      const jobs = together.get(key) ?? [];
      const last = jobs.at(-1);
      if (last && last.length < mostPerJob) last.push(row);
      else together.set(key, [...jobs, [row]]);
    }
    const jobs = [...together.values()].flat().map((due) => {
      const [{ lane, next_at }] = due;
      const data: DeliveryJob = { deliveries: due.map(({ id }) => id) };
      return {
        ...{ id: timeOrderedId(), data, group: { id: lane } },
        ...(isNext && { priority: 1 }),
        ...(next_at && { startAfter: next_at }),
      };
    });
    if (jobs.length > 0) await this.boss.insert(queue, jobs, { db: forPgBoss(transaction) });
  }

  /**
   * Takes over what ended workers left behind. What becomes of it is decided from how it stands at that moment, in one statement:
   * who only seems dead may be writing down that it is leaving. What may have left is in doubt, and waits for a person unless its
   * policy is to send it again; what somebody waited for has failed, since nobody waits any more; the rest goes back into the queue.
   *
   * @param except what is not left behind after all, where the worker is this one. Asked within the transaction: what comes later
   * is later than its beginning.
   */
  async recover(
    ended: readonly string[],
    failed: MailErrorJson,
    inDoubt: MailErrorJson,
    except?: () => readonly Attempt[],
  ): Promise<{ state: DeliveryState }[]> {
    return this.database.transaction(async (transaction) => {
      const held = except?.();
      const recovered = await transaction.query<Due & { readonly state: DeliveryState }>(
        `with mine as (
           update flowpost.deliveries set worker = null, next_at = null, updated_at = now(), left_behind = 'taken-over',
             state = case
               when mode = 'async' and (state = 'sending' or ${policyOf('onDoubt')} = 'resend') then 'queued'
               when state = 'committing' then 'in-doubt' else 'failed' end,
             error = case when state = 'committing' then jsonb_set($3::jsonb, '{details}', coalesce($3::jsonb -> 'details', '{}')
               -- Whom it is about: whom it was for this time, and whoever was in doubt before.
               || jsonb_build_object('unconfirmed', (select jsonb_agg(distinct one) from jsonb_array_elements(
                 to_jsonb(coalesce(nullif(array_remove(array[${redirectedTo}], null), '{}'), retry_to, recipients))
                   || case when (error ->> 'inDoubt')::boolean then coalesce(error #> '{details,unconfirmed}', '[]') else '[]' end) as one)))
               when mode = 'async' then error else $2::jsonb end,
             open = state = 'committing' or mode = 'async', event_xid = ${eventXid}
           where open and state in ('sending', 'committing') and worker = any($1::uuid[])
             and ($4::jsonb is null or updated_at <= now()
               and (id, attempt) not in (select id, attempt from jsonb_to_recordset($4::jsonb) as held (id uuid, attempt int)))
           returning id, state, lane, next_at, event_xid
         ), ${eventsOfMine()},
         freed as (
           delete from flowpost.duplicates where receipt is null and owner in (select id::text from mine where state = 'failed')
         ), kept as (
           update flowpost.duplicates set expires_at = ${lastsFromNow}
           where owner in (select id::text from mine where state = 'in-doubt')
         )
         select id, state, lane, next_at from mine`,
        [ended, storable(failed), storable(inDoubt), held ? storable(held) : null],
      );
      await this.enqueue(
        recovered.filter(({ state }) => state === 'queued'),
        transaction,
      );
      return recovered;
    });
  }

  /** Gives those a job again that were too many or too large this time. They come before the others, as they would have. */
  protected async putBack(
    ids: readonly string[],
    taken: readonly { readonly id: string }[],
    transaction: Queryable,
  ): Promise<void> {
    const isTaken = new Set(taken.map(({ id }) => id));
    const left = await transaction.query<Due>(
      `select id, lane, next_at from flowpost.deliveries
       where id = any($1::uuid[]) and state = 'queued' and (next_at is null or next_at <= now() + interval '1 second') order by id`,
      [ids.filter((id) => !isTaken.has(id))],
    );
    await this.enqueue(left, transaction, { isNext: true });
  }

  /**
   * What was written while the clock of the database showed a time that is still to come, before it was set back, is due as much later
   * than now as it was meant to be then.
   *
   * @returns how many.
   */
  async bringForward(): Promise<number> {
    return this.database.transaction(async (transaction) => {
      const rows = await transaction.query<Due>(
        `update flowpost.deliveries set next_at = now() + (next_at - updated_at), updated_at = now()
         where open and state = 'queued' and updated_at > now() + interval '1 second' returning id, lane, next_at`,
      );
      if (rows.length === 0) return 0;
      await transaction.query(
        `delete from pgboss.job where name = $1 and state = 'created' and start_after > now()
           and exists (select 1 from jsonb_array_elements_text(data -> 'deliveries') as one where one = any($2::text[]))`,
        [queue, rows.map(({ id }) => id)],
      );
      await this.enqueue(
        rows.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
        transaction,
      );
      return rows.length;
    });
  }

  /** Deliveries that wait and have no job that would come for them. A safety net: there should be none. */
  async requeueForgotten(): Promise<number> {
    const atOnce = 1_000;
    let found = 0;
    for (let last = atOnce; last === atOnce; found += last) last = await this.#requeueForgotten(atOnce);
    return found;
  }

  async #requeueForgotten(atMost: number): Promise<number> {
    return this.database.transaction(async (transaction) => {
      // Row by row it would take time with the square of the backlog.
      await transaction.query('set local enable_hashjoin = on; set local enable_nestloop = off');
      const rows = await transaction.query<Due>(
        `with awaited as (
           select jsonb_array_elements_text(data -> 'deliveries') as id from pgboss.job where name = $1 and state < 'completed'
         )
         select d.id, d.lane, d.next_at from flowpost.deliveries d
         where d.open and d.state = 'queued' and d.updated_at < now() - interval '1 minute'
           and not exists (select 1 from awaited where awaited.id = d.id::text)
         limit $2`,
        [queue, atMost],
      );
      await this.enqueue(rows, transaction);
      return rows.length;
    });
  }

  /** Forgets what ended long ago. */
  async forget(afterDays: number): Promise<void> {
    for (;;) {
      const old = await this.database.query(
        `with oldest as (
           select id from flowpost.deliveries
           where id < $3 and updated_at < now() - $1 * interval '1 day' and not open order by id limit $2
         ), sized as (
           select oldest.id, row_number() over (order by oldest.id) as place,
             sum(coalesce(r.bytes, pg_column_size(r.request), 0)) over (order by oldest.id) as upto
           from oldest left join flowpost.delivery_requests r on r.id = oldest.id
         ), old as (
           -- Somebody may have put it back meanwhile.
           delete from flowpost.deliveries where id in (select id from sized where place = 1 or upto <= $4)
             and not open and updated_at < now() - $1 * interval '1 day' returning id
         ), request as (delete from flowpost.delivery_requests where id in (select id from old)),
         event as (delete from flowpost.delivery_events where delivery_id in (select id from old))
         select id from old`,
        [
          afterDays,
          mostForgotten[this.database.kind],
          firstIdOf(Date.now() - afterDays * 86_400_000),
          mostForgottenBytes,
        ],
      );
      if (old.length === 0) break;
    }
    // What was remembered when a delivery was taken in counts for it, however late its turn comes.
    const [since] = await this.database.query<{ readonly since: string }>(
      `select coalesce(min(created_at), now())::text as since from flowpost.deliveries where open and state <> 'in-doubt'`,
    );
    for (;;) {
      const old = await this.database.query(
        `delete from flowpost.duplicates where key in (
           select key from flowpost.duplicates where expires_at < $1::timestamptz order by expires_at limit $2)
           -- Or it is reserved again.
           and expires_at < $1::timestamptz returning 1`,
        [since?.since, mostForgotten[this.database.kind]],
      );
      if (old.length === 0) break;
    }
    // A refresh token that was not used for so long is none any more, wherever it is from.
    await this.database.query(
      "delete from flowpost.tokens where updated_at < now() - $1 * interval '1 day'",
      [200],
    );
    await this.database.query(
      `delete from flowpost.workers w where seen_at < now() - $1 * interval '1 day'
         and not exists (select 1 from flowpost.deliveries d where d.open and d.worker = w.id)`,
      [1],
    );
  }
}
