import type { Queryable } from '../database/database.ts';

/** One change of a delivery. */
export interface DeliveryEvent {
  /** Where it stands among the events: the transaction, and the place in it. */
  readonly cursor: string;
  readonly delivery: string;
  readonly state: string;
  readonly at: Date;
  readonly detail: unknown;
}

/**
 * SQL: of which transaction the event of a delivery is that changes. Whoever waited for its row may have got his number before the
 * transaction he waited for; in their order its events are those of the later one too.
 */
export const eventXid = 'greatest(event_xid, pg_current_xact_id())';

/** SQL: writes the events of the deliveries that a statement changes, which it calls `mine`. @param detail SQL of what else is told. */
export const eventsOfMine = (detail = 'null::jsonb'): string =>
  `event as (insert into flowpost.delivery_events (xid, delivery_id, state, detail) select event_xid, id, state, ${detail} from mine)`;

/** What a cursor looks like. */
export const cursorPattern = /^\d{1,19}\.\d{1,18}$/;
/** Before everything that is there. */
const beginning = '0.0';
/** How many are read at once. */
export const mostEvents = 500;

const partsOf = (cursor: string): [xid: string, seq: string] => {
  const [xid = '0', seq = '0'] = cursor.split('.');
  return [xid, seq];
};

/** What comes after a cursor, for several who are there, in milliseconds: they ask more seldom than that. */
const sharedMs = 250;

/** Events as they are told to listeners. */
export interface EventPage {
  /** Server-sent events, one after another. */
  readonly text: string;
  readonly count: number;
  /** Where the next ones come. */
  readonly last: string;
}

/** Changes of deliveries in the order in which others can see them, so that who has read up to one has missed none. */
export class DeliveryEvents {
  readonly #database: Queryable;
  /** By cursor, what was read just now. */
  readonly #pages = new Map<string, Promise<EventPage>>();

  constructor(database: Queryable) {
    this.#database = database;
  }

  /** The last one that nothing can come before any more: no transaction that is still under way. */
  async newest(): Promise<string> {
    const [newest] = await this.#database.query<{ cursor: string }>(
      `select xid::text || '.' || seq as cursor from flowpost.delivery_events
       where seq > $1 and xid < pg_snapshot_xmin(pg_current_snapshot()) order by xid desc, seq desc limit 1`,
      [0],
    );
    return newest?.cursor ?? beginning;
  }

  /** Those after one, in their order; of what is still under way, and all behind it, nothing yet. */
  async after(cursor: string): Promise<DeliveryEvent[]> {
    return this.#database.query<DeliveryEvent>(
      `select xid::text || '.' || seq as cursor, delivery_id as delivery, state, at, detail from flowpost.delivery_events
       where (xid, seq) > ($1::xid8, $2::bigint) and xid < pg_snapshot_xmin(pg_current_snapshot())
       order by xid, seq limit ${mostEvents}`,
      partsOf(cursor),
    );
  }

  /** The same as text. Asked once for all who are at the same place: most listeners are at the end. */
  pageAfter(cursor: string): Promise<EventPage> {
    const known = this.#pages.get(cursor);
    if (known) return known;
    const page = this.#read(cursor);
    this.#pages.set(cursor, page);
    const forget = (): unknown => this.#pages.delete(cursor);
    // Whoever reads what was long ago reads it alone.
    page.then(
      ({ count }) => (count === mostEvents ? forget() : setTimeout(forget, sharedMs).unref()),
      forget,
    );
    return page;
  }

  async #read(cursor: string): Promise<EventPage> {
    const found = await this.after(cursor);
    const text = found.map(
      ({ cursor: id, ...event }) => `id: ${id}\nevent: delivery\ndata: ${JSON.stringify(event)}\n\n`,
    );
    return { text: text.join(''), count: found.length, last: found.at(-1)?.cursor ?? cursor };
  }

  /**
   * Where the events go on for whoever has this one. It may have another place since, when the data was moved into another
   * database cluster; see `rebaseEvents`.
   */
  async placeOf(cursor: string): Promise<string> {
    const [xid, seq] = partsOf(cursor);
    const [state] = await this.#database.query<{ same: boolean; moves: boolean; ahead: boolean }>(
      `select exists (select 1 from flowpost.delivery_events where xid = $1::xid8 and seq = $2::bigint) as same,
         exists (select 1 from flowpost.event_moves) as moves, $1::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) as ahead`,
      [xid, seq],
    );
    if (state?.same) return cursor;
    // Nothing was moved: it was forgotten, and so lies before everything that is there; or it is from elsewhere.
    if (!state?.moves) return state?.ahead ? beginning : cursor;
    const [moved] = await this.#database.query<{ cursor: string; same: boolean }>(
      `select xid::text || '.' || seq as cursor, seq = $1::bigint as same from flowpost.delivery_events where seq <= $1::bigint
       order by seq desc limit 1`,
      [seq],
    );
    if (moved && (moved.same || state.ahead)) return moved.cursor;
    return state.ahead ? beginning : cursor;
  }
}
