import { MailError } from '@flowpost/core';
import type { Database, Queryable } from './database.ts';

/** The schema, step by step. A step that was released does not change any more; a new one is added. */
const migrations: readonly string[] = [
  `
  create table flowpost.api_keys (
    id text primary key,
    name text not null,
    hash bytea not null,
    scopes text[] not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
  );
  create table flowpost.connections (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    kind text not null,
    host text,
    sealed text not null,
    expires jsonb not null default '[]',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  );
  create table flowpost.workers (
    id uuid primary key,
    seen_at timestamptz not null default now()
  );
  create table flowpost.deliveries (
    seq bigint generated always as identity primary key,
    id uuid not null unique,
    state text not null,
    mode text not null,
    node_type text not null,
    node_id text not null,
    message_id text not null,
    recipients text[] not null,
    subject text not null,
    connection_id uuid,
    lane text not null,
    store jsonb,
    api_key text not null,
    idempotency_key text,
    body_hash text,
    attempt int not null default 0,
    worker uuid,
    next_at timestamptz,
    receipt jsonb,
    error jsonb,
    answer jsonb,
    -- Whether it has not ended. Only this is indexed of what changes, so that a state is written without touching an index.
    open boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  ) with (fillfactor = 70);
  create unique index deliveries_idempotency on flowpost.deliveries (api_key, idempotency_key)
    where idempotency_key is not null;
  create index deliveries_open on flowpost.deliveries (seq) where open;
  -- What is sent does not change while a delivery goes through its states, so it is not written again each time.
  create table flowpost.delivery_requests (
    id uuid primary key,
    request jsonb not null,
    sealed text
  );
  create table flowpost.delivery_events (
    -- Numbers are given before a transaction commits; with its transaction, an event's place among the others is final.
    xid xid8 not null default pg_current_xact_id(),
    seq bigint generated always as identity,
    delivery_id uuid not null,
    state text not null,
    detail jsonb,
    at timestamptz not null default clock_timestamp(),
    primary key (xid, seq)
  );
  create index delivery_events_delivery on flowpost.delivery_events (delivery_id, seq);
  create table flowpost.duplicates (
    key text primary key,
    token uuid not null,
    content_hash text not null,
    owner text not null,
    receipt jsonb,
    expires_at timestamptz not null
  );
  create index duplicates_expires on flowpost.duplicates (expires_at);
  create index duplicates_owner on flowpost.duplicates (owner) where receipt is null;
  -- Something sealed, by which a process sees that it has the keys of the others.
  create table flowpost.key_check (id int primary key default 1, sealed text not null);
  create table flowpost.tokens (key text primary key, sealed text not null, updated_at timestamptz not null default now());
  create table flowpost.rate_slots (key text primary key, next_at timestamptz not null);
  `,
  // Of the attempts that were begun, so many tried nothing. Taking them off would give a number twice.
  'alter table flowpost.deliveries add column uncounted int not null default 0',
  // Since when it is tried, where somebody had it tried again.
  'alter table flowpost.deliveries add column tried_since timestamptz',
  // Whom it is sent to the next time, where the others have it. What somebody said was sent had no receipt.
  `
  alter table flowpost.deliveries add column retry_to text[];
  update flowpost.deliveries set receipt = jsonb_build_object('status', 'sent', 'messageId', message_id,
    'accepted', to_jsonb(recipients), 'rejected', '[]'::jsonb, 'response', 'resolved as sent', 'attempts', attempt - uncounted,
    'timings', '{"sessionMs": 0, "composeMs": 0, "deliverMs": 0, "totalMs": 0}'::jsonb, 'sizeBytes', 0)
    where state = 'sent' and receipt is null;
  `,
  // What people ask for, of a table that is mostly sent. A column of its own, because an index on the state would have to be
  // written with every state.
  `
  alter table flowpost.deliveries add column unsent text
    generated always as (case when state in ('failed', 'partial', 'cancelled') then state end) stored;
  create index deliveries_unsent on flowpost.deliveries (unsent, seq) where unsent is not null;
  `,
  // Who asks an issuer for a token at the moment, and until when that is believed.
  'create table flowpost.token_leases (key text primary key, holder uuid not null, until timestamptz not null)',
  // Transactions whose events came from another cluster.
  'create table flowpost.event_moves (xid xid8 primary key)',
  // Its process seemed dead, and may still say how its last attempt ended: `taken-over`, or `cancelled` where nothing is to
  // be sent any more. The index is on all of them, so that what was remembered is found too, and a receipt is written without touching it.
  `
  alter table flowpost.deliveries add column left_behind text;
  drop index flowpost.duplicates_owner;
  create index duplicates_owner on flowpost.duplicates (owner);
  `,
  // How long a send is remembered, which begins when it was sent.
  'alter table flowpost.duplicates add column lasts interval',
  // How large a request is in memory, which is several times what it takes where it is compressed.
  'alter table flowpost.delivery_requests add column bytes int',
  // Of which transaction its last event is.
  'alter table flowpost.deliveries add column event_xid xid8',
  // Who gets the mail of a process with a sandbox.
  'alter table flowpost.workers add column redirect_to text',
];

/** Any number, as long as it stays the same: who holds it migrates. */
const lock = 7_305_481_220;

/** Does work while no other process does: the lock is held by a transaction, which waits for work outside of it. */
export async function exclusively(
  database: Database,
  work: (transaction: Queryable) => Promise<void>,
): Promise<void> {
  await database.transaction(
    async (transaction) => {
      await transaction.query('select pg_advisory_xact_lock($1::bigint)', [String(lock)]);
      await work(transaction);
    },
    { isLong: true },
  );
}

/**
 * Transactions are numbered by the cluster they were in. Where the data comes from another one (a restored dump), events of
 * transactions that are yet to come here would come after new ones; they are made events of this transaction.
 */
async function rebaseEvents(transaction: Queryable, say: (text: string) => void): Promise<void> {
  const [ahead] = await transaction.query(
    'select 1 from flowpost.delivery_events where xid >= pg_snapshot_xmax(pg_current_snapshot()) limit 1',
  );
  // Nearly always, and then nothing is written.
  if (!ahead) return;
  say('the data comes from another database cluster: its events are being moved, which may take minutes');
  await transaction.query(
    `with moved as (
       update flowpost.delivery_events set xid = pg_current_xact_id()
       where xid > pg_current_xact_id() returning xid
     )
     insert into flowpost.event_moves (xid) select distinct xid from moved on conflict do nothing`,
  );
  await transaction.query(
    'update flowpost.deliveries set event_xid = null where event_xid > pg_current_xact_id()',
  );
}

export async function hasSchema(database: Queryable, name: string): Promise<boolean> {
  const [found] = await database.query<{ exists: boolean }>(
    'select to_regnamespace($1) is not null as exists',
    [name],
  );
  return found?.exists === true;
}

/** Brings the schema up to date. Of several processes that start at once, one does it and the others wait. */
export async function migrate(
  database: Database,
  say: (text: string) => void = () => undefined,
): Promise<void> {
  await exclusively(database, async (transaction) => {
    // Also where there is one already, making one takes a right that whoever may only use it has not.
    if (!(await hasSchema(transaction, 'flowpost'))) await transaction.query('create schema flowpost');
    await transaction.query(
      'create table if not exists flowpost.migrations (version int primary key, at timestamptz not null default now())',
    );
    const [found] = await transaction.query<{ version: number }>(
      'select coalesce(max(version), 0)::int as version from flowpost.migrations',
    );
    if (found && found.version > migrations.length) {
      throw new MailError(
        'STORAGE_UNAVAILABLE',
        `The database is of version ${found.version}, and this program knows ${migrations.length} at most.`,
        { hint: 'A newer version of Flowpost has used it. Start that one, or a newer one still.' },
      );
    }
    for (let version = (found?.version ?? 0) + 1; version <= migrations.length; version++) {
      if (found && found.version > 0)
        say(`the database is being brought to version ${version}, which may take minutes`);
      await transaction.query(migrations[version - 1] ?? '');
      await transaction.query('insert into flowpost.migrations (version) values ($1)', [version]);
    }
    await rebaseEvents(transaction, say);
  });
}
