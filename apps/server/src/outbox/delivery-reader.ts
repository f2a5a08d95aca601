import type { MailErrorJson, SendReceipt, StoreResult } from '@flowpost/core';
import { Unconfirmed } from '@flowpost/transport';
import type { Database, Queryable } from '../database/database.ts';
import type { Delivery, DeliveryState, StoredRequest } from './delivery.ts';
import { readRequest } from './delivery-row.ts';
import { ended } from './ended.ts';

const openStates: readonly string[] = ['queued', 'sending', 'committing', 'in-doubt'];

const unsentStates: readonly string[] = ['failed', 'partial', 'cancelled'];

/** Says of some states what indexes are for; most deliveries are sent, and those are found anywhere. */
function indexed(states: readonly string[] | undefined): string {
  if (!states || states.includes('sent')) return '';
  return states.every((state) => openStates.includes(state))
    ? 'and open'
    : 'and (open or unsent is not null)';
}

const pageOf = (states: readonly string[] | undefined): string =>
  `select * from flowpost.deliveries
   where ($1::text[] is null or state = any($1::text[])) and ($2::bigint is null or seq < $2::bigint)
     ${indexed(states)}
   order by seq desc limit $3`;

/** One state after another, each in the order of its index: those of several states at once have no order there. */
const unsentPage = `select found.* from unnest($1::text[]) as wanted (state) cross join lateral (
     select * from flowpost.deliveries
     where unsent = wanted.state and ($2::bigint is null or seq < $2::bigint) order by seq desc limit $3
   ) as found order by seq desc limit $3`;

interface Row {
  readonly seq: string | number;
  readonly id: string;
  readonly state: DeliveryState;
  readonly mode: 'sync' | 'async';
  readonly node_type: string;
  readonly node_id: string;
  readonly message_id: string;
  readonly recipients: string[];
  readonly subject: string;
  readonly connection_id: string | null;
  readonly store: StoreResult | null;
  readonly attempt: number;
  readonly uncounted: number;
  readonly next_at: Date | null;
  readonly receipt: SendReceipt | null;
  readonly error: MailErrorJson | null;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** What somebody asked for under the same key before. */
export interface Known {
  readonly id: string;
  readonly state: DeliveryState;
  readonly mode: 'sync' | 'async';
  readonly bodyHash: string;
  readonly answer: string | null;
  /** Whether its process ended before anything was handed over, so that whoever asks again asks for the first time. */
  readonly isLeft: boolean;
}

/** Who took a delivery over named whom it is about as its author did, and mail servers as they were told. */
function spelledOnce(error: MailErrorJson | null): MailErrorJson | null {
  if (!error?.details?.unconfirmed) return error;
  return { ...error, details: { ...error.details, ...new Unconfirmed().add(error).details() } };
}

const toDelivery = (row: Row): Delivery => ({
  ...{ id: row.id, state: row.state, mode: row.mode, nodeType: row.node_type, nodeId: row.node_id },
  ...{ messageId: row.message_id, recipients: row.recipients, subject: row.subject },
  ...{ connectionId: row.connection_id, attempt: row.attempt - row.uncounted, store: row.store },
  nextAt: row.next_at?.toISOString() ?? null,
  ...{ receipt: row.receipt, error: spelledOnce(row.error) },
  createdAt: row.created_at.toISOString(),
  updatedAt: row.updated_at.toISOString(),
});

/** What deliveries are and what became of them, for whoever asks. */
export class DeliveryReader {
  protected readonly database: Database;

  constructor(database: Database) {
    this.database = database;
  }

  async findByKey(
    apiKey: string,
    key: string,
    database: Queryable = this.database,
  ): Promise<Known | undefined> {
    const [row] = await database.query<{
      id: string;
      state: DeliveryState;
      mode: 'sync' | 'async';
      body_hash: string;
      answer: string | null;
      code: string | null;
    }>(
      `select id, state, mode, body_hash, answer #>> '{}' as answer, error ->> 'code' as code from flowpost.deliveries
       where api_key = $1 and idempotency_key = $2`,
      [apiKey, key],
    );
    if (!row) return undefined;
    const { id, state, mode, body_hash, answer, code } = row;
    const isLeft = mode === 'sync' && state === 'failed' && answer === null && code === ended.code;
    return { id, state, mode, bodyHash: body_hash, answer, isLeft };
  }

  async get(id: string): Promise<Delivery | undefined> {
    const [row] = await this.database.query<Row>('select * from flowpost.deliveries where id = $1', [id]);
    return row && toDelivery(row);
  }

  /** The message of a delivery, and its sealed connection. */
  async getMessage(id: string): Promise<{ request: StoredRequest; sealed: string | null } | undefined> {
    const [row] = await this.database.query<{ request: StoredRequest; sealed: string | null }>(
      `select r.request, coalesce(r.sealed, c.sealed) as sealed from flowpost.deliveries d
       join flowpost.delivery_requests r on r.id = d.id
       left join flowpost.connections c on c.id = d.connection_id where d.id = $1`,
      [id],
    );
    return row && { ...row, request: readRequest(row.request) };
  }

  async events(id: string): Promise<{ state: string; at: string; detail: unknown }[]> {
    const rows = await this.database.query<{ state: string; at: Date; detail: unknown }>(
      'select state, at, detail from flowpost.delivery_events where delivery_id = $1 order by seq',
      [id],
    );
    return rows.map(({ state, at, detail }) => ({ state, at: at.toISOString(), detail }));
  }

  /** Newest first. @param before continues where an earlier page ended. */
  async list(filter: {
    readonly states?: readonly string[] | undefined;
    readonly before?: string | undefined;
    readonly limit: number;
  }) {
    const states = filter.states && [...new Set(filter.states)];
    const isUnsent = states?.every((state) => unsentStates.includes(state)) === true;
    const rows = await this.database.query<Row>(isUnsent ? unsentPage : pageOf(states), [
      states ?? null,
      filter.before ?? null,
      filter.limit,
    ]);
    const last = rows.at(-1);
    return {
      deliveries: rows.map(toDelivery),
      next: last && rows.length === filter.limit ? String(last.seq) : null,
    };
  }

  /** How many there are in each state that is no end, and how long the oldest waits. */
  async depth(): Promise<{ state: string; count: number; ageSeconds: number }[]> {
    return this.database.query(
      `select state, count(*)::int as count,
         coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "ageSeconds"
       from flowpost.deliveries where open group by state`,
    );
  }
}
