import { randomUUID } from 'node:crypto';
import {
  type DuplicateStore,
  MailError,
  type MailErrorJson,
  type Reservation,
  type SendReceipt,
} from '@flowpost/core';
import type { Queryable } from '../database/database.ts';
import { storable } from '../database/storable.ts';

/** Somebody took this process for dead, or cancelled: they decide now. */
export const inOtherHands = (): MailError =>
  new MailError('DELIVERY_CANCELLED', 'The delivery is no longer in the hands of this process.', {
    phase: 'envelope',
  });

/** A delivery in the hands of a process. */
export interface Claim {
  readonly id: string;
  readonly attempt: number;
  readonly worker: string;
  /** Whether somebody waits for the outcome. */
  readonly mode: 'sync' | 'async';
}

/** When a send is forgotten that was sent now. One that was written down before `lasts` was keeps its time. */
export const lastsFromNow = 'coalesce(now() + lasts, expires_at)';

/** What was sent, remembered in the database: by every process, and over restarts. */
export class DatabaseDuplicateStore implements DuplicateStore {
  protected readonly database: Queryable;
  protected readonly claim: Claim;

  readonly #keeps: boolean;
  /** Whether the receipt that was found is that of an earlier attempt of this delivery, of which nothing else is known. */
  hasOwn = false;

  /**
   * @param claim the delivery it is for. What a delivery reserved before its process died, it may reserve again, in whosever hands it is.
   * @param options.keeps whether what it reserved stays so when it fails, because it may have been delivered before.
   */
  constructor(database: Queryable, claim: Claim, { keeps = false }: { readonly keeps?: boolean } = {}) {
    this.database = database;
    this.claim = claim;
    this.#keeps = keeps;
  }

  async reserve(key: string, contentHash: string, windowMs: number): Promise<Reservation> {
    const token = randomUUID();
    const { id, attempt, worker, mode } = this.claim;
    // Whose process was taken for dead reserves nothing any more.
    const taken = await this.database.query(
      `insert into flowpost.duplicates as known (key, token, content_hash, owner, lasts, expires_at)
       select $1, $2, $3, id::text, lasts, now() + lasts from flowpost.deliveries, (select $4 * interval '1 millisecond' as lasts) as given
       where id = $5 and attempt = $6 and worker = $7
       on conflict (key) do update
         set token = excluded.token, content_hash = excluded.content_hash, owner = excluded.owner,
             lasts = excluded.lasts, expires_at = excluded.expires_at, receipt = null
         where (known.receipt is null and known.owner = excluded.owner)
           or known.expires_at <= now() and not exists (select 1
             from flowpost.deliveries own left join flowpost.deliveries other on other.id = known.owner::uuid
             where own.id = $5 and (other.state in ('sending', 'committing')
               -- Two that were taken in within a window are twins, however much later the turn of one of them comes.
               or known.expires_at > own.created_at
                 and (known.lasts is null or other.created_at < own.created_at + known.lasts)))
       returning key`,
      [key, token, contentHash, windowMs, id, attempt, worker],
    );
    if (taken.length > 0) return { state: 'reserved', token };
    const [known] = await this.database.query<{
      content_hash: string;
      receipt: SendReceipt | null;
      owner: string;
      doubt: MailErrorJson | null;
    }>(
      `select content_hash, known.receipt, owner, case when state = 'in-doubt' then error end as doubt
       from flowpost.duplicates known left join flowpost.deliveries on id = owner::uuid where key = $1`,
      [key],
    );
    this.hasOwn = known?.owner === this.claim.id;
    if (!known) {
      await this.#assertClaimed();
      // It was freed in between.
      return this.reserve(key, contentHash, windowMs);
    }
    if (known.content_hash !== contentHash) return { state: 'conflict' };
    if (known.receipt) return { state: 'sent', receipt: known.receipt };
    // In the outbox it can wait until somebody has said what it was.
    if (!known.doubt || mode === 'async') return { state: 'pending' };
    const details = { ...known.doubt.details, delivery: known.owner };
    return { state: 'in-doubt', error: { ...known.doubt, details } };
  }

  /** @throws MailError `DELIVERY_CANCELLED` when the delivery is in other hands. */
  async #assertClaimed(): Promise<void> {
    const { id, attempt, worker } = this.claim;
    const [own] = await this.database.query(
      'select 1 from flowpost.deliveries where id = $1 and attempt = $2 and worker = $3',
      [id, attempt, worker],
    );
    if (!own) throw inOtherHands();
  }

  async remember(key: string, token: string, receipt: SendReceipt): Promise<void> {
    await this.database.query(
      `update flowpost.duplicates set receipt = $3::jsonb, expires_at = ${lastsFromNow}
       where key = $1 and token = $2`,
      [key, token, storable(receipt)],
    );
  }

  async release(key: string, token: string): Promise<void> {
    if (this.#keeps) return;
    await this.database.query('delete from flowpost.duplicates where key = $1 and token = $2', [key, token]);
  }
}

/** For a message that some have already: what is remembered of it stays, whatever comes, until it is the receipt of all. */
export class ContinuedDuplicateStore extends DatabaseDuplicateStore {
  readonly #continued: (receipt: SendReceipt) => SendReceipt;

  /** @param continued makes one receipt of what was known and what is new. */
  constructor(database: Queryable, claim: Claim, continued: (receipt: SendReceipt) => SendReceipt) {
    super(database, claim, { keeps: true });
    this.#continued = continued;
  }

  override async reserve(): Promise<Reservation> {
    return { state: 'reserved', token: this.claim.id };
  }

  override async remember(_key: string, _token: string, receipt: SendReceipt): Promise<void> {
    const { id, attempt, worker } = this.claim;
    await this.database.query(
      `update flowpost.duplicates set receipt = $2::jsonb, expires_at = ${lastsFromNow}
       where owner = $1 and exists (select 1 from flowpost.deliveries where id = $1::uuid and attempt = $3 and worker = $4)`,
      [id, storable(this.#continued(receipt)), attempt, worker],
    );
  }
}
