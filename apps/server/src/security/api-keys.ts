import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Database } from '../database/database.ts';

export const scopes = ['send', 'admin'] as const;
/** `send` runs nodes and sees deliveries; `admin` does everything. */
export type Scope = (typeof scopes)[number];

export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: string;
}

interface Row {
  readonly id: string;
  readonly name: string;
  readonly hash: Uint8Array;
  readonly scopes: Scope[];
  readonly created_at: Date;
}

/** A key is 32 random bytes, so a plain hash of it tells nothing. */
const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest();
const unknown = Buffer.alloc(32);
/** How long a key that was looked up is known without asking again, in milliseconds; also how long a revoked one lives on. */
const rememberedMs = 5_000;

const toKey = ({ id, name, scopes: of, created_at }: Row): ApiKey => ({
  id,
  name,
  scopes: of,
  createdAt: created_at.toISOString(),
});

/** The keys of those who may call the API. They are written `fp_ID_SECRET`, and only a hash of the secret is kept. */
export class ApiKeys {
  readonly #database: Database;
  readonly #known = new Map<string, { readonly row: Row | undefined; readonly until: number }>();

  constructor(database: Database) {
    this.#database = database;
  }

  /** @returns the key itself, which is not to be had again. */
  async create(name: string, of: readonly Scope[]): Promise<ApiKey & { readonly key: string }> {
    const id = randomBytes(6).toString('hex');
    const secret = randomBytes(32).toString('base64url');
    const [row] = await this.#database.query<Row>(
      'insert into flowpost.api_keys (id, name, hash, scopes) values ($1, $2, $3, $4) returning *',
      [id, name, hashOf(secret), of],
    );
    this.#known.delete(id);
    return { ...toKey(row as Row), key: `fp_${id}_${secret}` };
  }

  async list(): Promise<ApiKey[]> {
    const rows = await this.#database.query<Row>(
      'select * from flowpost.api_keys where revoked_at is null order by created_at',
    );
    return rows.map(toKey);
  }

  /**
   * Takes a key back. Not the last one that may make others: nobody could do anything about that.
   *
   * @returns whether it was; `last` when it is the last one.
   */
  async revoke(id: string): Promise<boolean | 'last'> {
    const revoked = await this.#database.transaction(async (transaction) => {
      // Held by one at a time: two that each take one of the last two would leave none.
      const good = await transaction.query<{ id: string; scopes: Scope[] }>(
        'select id, scopes from flowpost.api_keys where revoked_at is null order by id for update',
      );
      const key = good.find((one) => one.id === id);
      if (!key) return false;
      const isAdmin = ({ scopes: of }: { readonly scopes: readonly Scope[] }): boolean =>
        of.includes('admin');
      if (isAdmin(key) && good.filter(isAdmin).length === 1) return 'last';
      await transaction.query('update flowpost.api_keys set revoked_at = now() where id = $1', [id]);
      return true;
    });
    this.#known.delete(id);
    return revoked;
  }

  /** Who a key belongs to; undefined for one that is not good. Takes the same time whether or not there is such a key. */
  async authenticate(text: string): Promise<ApiKey | undefined> {
    const [, id = '', secret = ''] = /^fp_([0-9a-f]{12})_([\w-]{43})$/.exec(text) ?? [];
    const row = id === '' ? undefined : await this.#find(id);
    const isEqual = timingSafeEqual(hashOf(secret), row ? Buffer.from(row.hash) : unknown);
    return row && isEqual ? toKey(row) : undefined;
  }

  /** Whether a key that was good still is. */
  async isGood(id: string): Promise<boolean> {
    return (await this.#find(id)) !== undefined;
  }

  async #find(id: string): Promise<Row | undefined> {
    const known = this.#known.get(id);
    if (known && known.until > performance.now()) return known.row;
    const [row] = await this.#database.query<Row>(
      'select * from flowpost.api_keys where id = $1 and revoked_at is null',
      [id],
    );
    if (this.#known.size > 10_000) this.#known.clear();
    this.#known.set(id, { row, until: performance.now() + rememberedMs });
    return row;
  }
}
