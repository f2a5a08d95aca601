import { MailError } from '@flowpost/core';
import { forPgBoss, type Queryable } from '../database/database.ts';
import { storable } from '../database/storable.ts';
import { decide, type Undecided } from './decision.ts';
import type { ClaimedDelivery, DeliveryState, Settlement } from './delivery.ts';
import { eventsOfMine, eventXid } from './delivery-events.ts';
import { type DeliveryJob, DeliveryKeeper, type Due, queue } from './delivery-keeper.ts';
import type { Known } from './delivery-reader.ts';
import { type ClaimedRow, claimedOf, type DeliveryRow } from './delivery-row.ts';
import { lastsFromNow } from './duplicate-store.ts';

/**
 * What is kept free for what was accepted, in bytes. An embedded database that cannot write down how a delivery ended cannot go on
 * at all, so below this nothing is taken in, and below half of it nothing is begun.
 */
const reserveBytes = 64 * 1_048_576;

const diskFull = (): MailError =>
  new MailError('STORAGE_UNAVAILABLE', 'The disk of the data folder is as good as full.', {
    retryable: true,
    details: { reason: 'ENOSPC' },
  });

/** The error of a delivery that is settled: an attempt that tried nothing leaves the one before. */
const failure = `case when given.uncounted and not given.refutes and given.receipt is null
  then coalesce(given.error, d.error) else given.error end`;

/** The state of a delivery that is settled. One that was cancelled meanwhile is not sent again, whatever became of it. */
const settled = `case when given.state <> 'queued' or d.left_behind is distinct from 'cancelled' then given.state
  when ((${failure}) ->> 'inDoubt')::boolean then 'in-doubt'
  when coalesce(given.receipt, d.receipt) is not null then 'partial' else 'cancelled' end`;

/** The SQL of deliveries. Whatever changes a state writes the event of it in the same statement. */
export class DeliveryStore extends DeliveryKeeper {
  /** For how many deliveries the jobs came that were last taken, on average. */
  #perJob = 1;

  /** Whether there is room for more. */
  get hasRoom(): boolean {
    return this.database.freeBytes() >= reserveBytes;
  }

  /**
   * Puts deliveries in, all in one transaction with their jobs. Where the answer to that was lost, doing it again does what was not
   * done, and nothing twice: it waits for whoever may still be putting in the same ones.
   *
   * @returns for each undefined, or what its idempotency key was used for before.
   * @throws MailError `STORAGE_UNAVAILABLE` when the disk has too little room left.
   */
  async insert(rows: readonly DeliveryRow[]): Promise<(Known | undefined)[]> {
    const deliveries = rows.map(({ delivery }) => delivery);
    const json = `[${rows.map((row) => row.json).join(',')}]`;
    // Once in its table, and once or twice in the log.
    if (this.database.freeBytes() - 3 * json.length < reserveBytes) throw diskFull();
    const replaced = deliveries.flatMap((one) => one.replaces ?? []);
    return this.database.transaction(async (transaction) => {
      if (replaced.length > 0) await this.#freeKeys(replaced, transaction);
      const inserted = await transaction.query<{ id: string }>(
        `with given as (
           select * from jsonb_to_recordset($1::jsonb) as given (id uuid, state text, mode text, node_type text, node_id text,
             message_id text, recipients text[], subject text, request jsonb, connection_id uuid, sealed text, lane text, store jsonb,
             api_key text, idempotency_key text, body_hash text, attempt int, worker uuid, bytes int)
         ), new as (
           insert into flowpost.deliveries (id, state, mode, node_type, node_id, message_id, recipients, subject,
             connection_id, lane, store, api_key, idempotency_key, body_hash, attempt, worker)
           select id, state, mode, node_type, node_id, message_id, recipients, subject,
             connection_id, lane, store, api_key, idempotency_key, body_hash, attempt, worker
           from given
           on conflict do nothing
           returning id, state
         ), stored as (
           insert into flowpost.delivery_requests (id, request, sealed, bytes)
           select given.id, given.request, given.sealed, given.bytes from given join new using (id)
         ), event as (insert into flowpost.delivery_events (delivery_id, state) select id, state from new)
         select id from new`,
        [json],
      );
      const isNew = new Set(inserted.map(({ id }) => id));
      await this.enqueue(
        deliveries
          .filter(({ id, mode }) => mode === 'async' && isNew.has(id))
          .map(({ id, lane }) => ({ id, lane, next_at: null })),
        transaction,
      );
      const found: (Known | undefined)[] = [];
      for (const { id, apiKey, idempotencyKey = '' } of deliveries) {
        const known = isNew.has(id) ? undefined : await this.findByKey(apiKey, idempotencyKey, transaction);
        found.push(known?.id === id ? undefined : known);
      }
      return found;
    });
  }

  /**
   * Takes jobs that are due, and the deliveries they are for. A job has done its duty with that.
   *
   * @param except lanes of which nothing is wanted at the moment.
   * @param atMostBytes how large they may be together, in memory; one is taken however large it is.
   */
  async claim(
    worker: string,
    atMost: number,
    { except = [], atMostBytes = 32 * 1_048_576 }: { except?: readonly string[]; atMostBytes?: number } = {},
  ): Promise<ClaimedDelivery[]> {
    if (this.database.freeBytes() < reserveBytes / 2) throw diskFull();
    return this.database.transaction(async (transaction) => {
      const db = forPgBoss(transaction);
      const jobs = await this.boss.fetch<DeliveryJob>(queue, {
        ...{ batchSize: Math.max(1, Math.floor(atMost / this.#perJob)), db },
        ignoreGroups: [...except],
      });
      if (jobs.length === 0) return [];
      // One of an earlier form comes for nobody: those it was for will be found to have no job.
      const ids = jobs.flatMap(({ data }) => data.deliveries ?? []);
      this.#perJob = Math.max(1, ids.length / jobs.length);
      const taken = transaction.query<ClaimedRow>(
        `with sized as (
           select id, row_number() over (order by id) as place, sum(coalesce(bytes, pg_column_size(request))) over (order by id) as upto
           from flowpost.delivery_requests where id = any($1::uuid[])
         ), mine as (
           update flowpost.deliveries set state = 'sending', worker = $2, attempt = attempt + 1, next_at = null, updated_at = now(),
             event_xid = ${eventXid},
             tried_since = coalesce(tried_since, case attempt when uncounted then now() else created_at end)
           where id = any($1::uuid[]) and state = 'queued' and (next_at is null or next_at <= now() + interval '1 second')
             and id <> all(array(select id from sized where place > $4 or place > 1 and upto > $3))
           returning id, attempt, attempt - uncounted as tries, mode, state, node_type, node_id, message_id,
             tried_since, connection_id, lane, retry_to, receipt, error, event_xid
         ), ${eventsOfMine()}
         select mine.id, mine.attempt, mine.tries, mine.mode, mine.node_type, mine.node_id, mine.message_id, mine.lane,
           (extract(epoch from now() - mine.tried_since) * 1000)::float8 as tried_for, mine.retry_to, mine.receipt, mine.error,
           r.request, coalesce(r.bytes, pg_column_size(r.request)) as bytes, coalesce(r.sealed, c.sealed) as sealed,
           r.sealed is null as "isStored"
         from mine join flowpost.delivery_requests r on r.id = mine.id
           left join flowpost.connections c on c.id = mine.connection_id`,
        [ids, worker, atMostBytes, atMost],
      );
      const deleted = this.boss.deleteJob(
        queue,
        jobs.map(({ id }) => id),
        { db },
      );
      const [rows] = await Promise.all([taken, deleted]);
      if (rows.length < ids.length) await this.putBack(ids, rows, transaction);
      return rows.map(claimedOf);
    });
  }

  /**
   * Writes down that the message is about to leave. The ids stand in the condition as well, because a planner without statistics
   * would rather read all deliveries than look these few up.
   *
   * @returns for each whether it is still this process's. Where it is not, it must not be sent: also where the process itself has
   * claimed the delivery again since, because it was taken for dead.
   */
  async commit(
    claims: readonly { readonly id: string; readonly attempt: number }[],
    worker: string,
  ): Promise<boolean[]> {
    const rows = await this.database.query<{ id: string; attempt: number }>(
      `with mine as (
         update flowpost.deliveries d set state = 'committing', updated_at = now(), event_xid = ${eventXid}
         from unnest($1::uuid[], $2::int[]) as given (id, attempt)
         where d.id = any($1::uuid[]) and d.id = given.id and d.attempt = given.attempt
           and d.worker = $3 and d.state in ('sending', 'committing')
         returning d.id, d.attempt, d.state, d.event_xid
       ), ${eventsOfMine()}
       select id, attempt from mine`,
      [claims.map(({ id }) => id), claims.map(({ attempt }) => attempt), worker],
    );
    const mine = new Map(rows.map(({ id, attempt }) => [id, attempt]));
    return claims.map(({ id, attempt }) => mine.get(id) === attempt);
  }

  /** Writes down how attempts ended, with the job of those that are tried again. */
  async settle(settlements: readonly Settlement[], worker: string): Promise<void> {
    const rows = settlements.map(
      ({ id, attempt, state, receipt, error, retryTo, nextAt, uncounted = false, refutesDoubt = false }) => ({
        ...{ id, attempt, state, receipt, error, uncounted, retry_to: retryTo, refutes: refutesDoubt },
        // How long that is: the database may have another time than this machine.
        wait_ms: nextAt === undefined ? null : Math.round(nextAt - Date.now()),
        detail: error && { code: error.code, phase: error.phase },
      }),
    );
    const write = (queryable: Queryable) =>
      // One that was declared in doubt because its process seemed dead is settled all the same when it comes back; also when it is to be
      // sent again because of that doubt, as long as nobody has begun to. That it was in other hands already says nothing then.
      queryable.query<Due & { readonly state: string }>(
        `with mine as (
           update flowpost.deliveries d set state = ${settled}, receipt = coalesce(given.receipt, d.receipt), error = ${failure},
             next_at = date_trunc('milliseconds', now()) + given.wait_ms * interval '1 millisecond', retry_to = coalesce(given.retry_to, d.retry_to), worker = null, left_behind = null,
             -- One that was put off, and of which nothing was tried before, was not begun.
             tried_since = case when given.uncounted and given.error is null and given.receipt is null and d.attempt = d.uncounted + 1
               and d.error is null and d.receipt is null then null else d.tried_since end,
             updated_at = now(), open = ${settled} in ('queued', 'in-doubt'), uncounted = d.uncounted + given.uncounted::int,
             event_xid = ${eventXid}
           from jsonb_to_recordset($1::jsonb) as given (id uuid, attempt int, state text, receipt jsonb, error jsonb,
             wait_ms float8, detail jsonb, uncounted boolean, retry_to text[], refutes boolean)
           where d.id = any($3::uuid[]) and d.id = given.id and d.attempt = given.attempt
             and (d.state in ('sending', 'committing') and d.worker = $2 or d.left_behind is not null and d.state = 'in-doubt'
               or d.left_behind is not null and d.state = 'queued' and (d.error ->> 'inDoubt')::boolean
                 and (given.receipt is not null or not coalesce((given.error ->> 'inDoubt')::boolean, false))
                 and not given.refutes and coalesce(given.error ->> 'code', '') <> 'DELIVERY_CANCELLED')
           returning d.id, d.state, d.lane, d.next_at, d.receipt, given.detail, d.event_xid
         ), ${eventsOfMine('detail')},
         -- What the duplicate guard could not be told, when the database was away as the message left, or what is known since.
         remembered as (
           update flowpost.duplicates set
             receipt = case mine.state when 'in-doubt' then duplicates.receipt else mine.receipt end,
             -- From when it was sent, or nobody knows whether it was. That some are refused for good sends nothing.
             expires_at = case when mine.state = 'in-doubt' or duplicates.receipt is null
               or not (duplicates.receipt -> 'accepted') @> (mine.receipt -> 'accepted')
               then ${lastsFromNow} else expires_at end
           from mine
           where duplicates.owner = any($3::uuid[]::text[]) and duplicates.owner = mine.id::text
             and (mine.state in ('sent', 'partial') and duplicates.receipt is distinct from mine.receipt or mine.state = 'in-doubt')
         ), freed as (
           delete from flowpost.duplicates where owner = any($3::uuid[]::text[]) and receipt is null
             and owner in (select id::text from mine where state in ('failed', 'cancelled'))
         )
         select id, state, lane, next_at from mine`,
        [storable(rows), worker, rows.map(({ id }) => id)],
      );
    if (rows.every(({ state }) => state !== 'queued')) await write(this.database);
    else {
      const keepTheirPlace = new Set(settlements.filter((one) => one.keepsPlace).map(({ id }) => id));
      await this.database.transaction(async (transaction) => {
        const again = (await write(transaction)).filter(({ state }) => state === 'queued');
        for (const isNext of [true, false]) {
          const due = again.filter(({ id }) => keepTheirPlace.has(id) === isNext);
          await this.enqueue(due, transaction, { isNext });
        }
      });
    }
  }

  /**
   * Keeps the answer to a request with an idempotency key, sealed, for whoever asks again; not when the delivery went into the
   * outbox since, because then the answer is what became of it there.
   */
  async keepAnswer(id: string, sealed: string): Promise<void> {
    await this.database.query(
      "update flowpost.deliveries set answer = to_jsonb($2::text) where id = $1 and mode = 'sync'",
      [id, sealed],
    );
  }

  /** Takes their idempotency keys from deliveries that failed, in the place of which there are others: these will not be sent any more. */
  async #freeKeys(ids: readonly string[], transaction: Queryable): Promise<void> {
    await transaction.query(
      `update flowpost.deliveries set idempotency_key = null, error = error || jsonb_build_object('hint', $2::text,
         'details', coalesce(error -> 'details', '{}') || '{"replaced": true}')
       where id = any($1::uuid[]) and state = 'failed'`,
      [ids, 'Whoever asked for it asked again under the same Idempotency-Key, and got another delivery.'],
    );
  }

  /**
   * Moves a delivery from one of some states to another, when it is in one of them.
   *
   * @returns whether it was.
   */
  async move(
    id: string,
    from: readonly DeliveryState[],
    to: DeliveryState,
    detail?: object,
  ): Promise<boolean> {
    return this.database.transaction(async (transaction) => {
      const [found] = await transaction.query<Undecided>(
        `select state, message_id, recipients, attempt - uncounted as attempts, receipt, error, retry_to
         from flowpost.deliveries where id = $1 and state = any($2::text[])
           and ($3 <> 'queued' or (error #>> '{details,replaced}') is null) for update`,
        [id, from, to],
      );
      if (!found) return false;
      const { state, receipt, error, retryTo } = decide(found, to);
      const moved = await transaction.query<Due>(
        `with mine as (
           update flowpost.deliveries set state = $2, worker = null, next_at = null, updated_at = now(),
             open = $2 in ('queued', 'in-doubt'), answer = null, receipt = $3::jsonb, error = $4::jsonb, retry_to = $5::text[],
             left_behind = case when left_behind is not null then case $7::text when 'cancelled' then 'cancelled' else 'taken-over' end end,
             mode = case when $2 = 'queued' then 'async' else mode end,
             tried_since = case when $2 = 'queued' then now() else tried_since end, event_xid = ${eventXid}
           where id = $1 returning id, state, lane, next_at, event_xid
         ), ${eventsOfMine('$6::jsonb')}
         select id, lane, next_at from mine`,
        [
          id,
          state,
          receipt && storable(receipt),
          error && storable(error),
          retryTo,
          detail ? storable(detail) : null,
          to,
        ],
      );
      if (state === 'queued') await this.enqueue(moved, transaction);
      // Somebody says what it was, or that it is not to be: sending the same is a duplicate, or it is none.
      if (receipt && (to === 'sent' || state === 'partial')) {
        await transaction.query('update flowpost.duplicates set receipt = $2::jsonb where owner = $1', [
          id,
          storable(receipt),
        ]);
      } else if (to === 'failed' || state === 'cancelled') {
        await transaction.query('delete from flowpost.duplicates where receipt is null and owner = $1', [id]);
      }
      return true;
    });
  }
}
