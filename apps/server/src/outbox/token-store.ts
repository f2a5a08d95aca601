import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { openTokens, sealTokens } from '@flowpost/auth-providers';
import { type SecretBox, type StoredTokens, type TokenStore, tokensInUse } from '@flowpost/core';
import type { Queryable } from '../database/database.ts';
import { sealedElsewhere } from '../security/sealed-elsewhere.ts';

const pollMs = 100;

/** Tokens in the database, sealed, so that they outlive the process and all processes share them. */
export class DatabaseTokenStore implements TokenStore {
  readonly #database: Queryable;
  readonly #box: SecretBox;
  readonly #leaseMs: number;

  /** @param leaseMs how long a process that died keeps others from asking, and how long one waits for another, in milliseconds. */
  constructor(database: Queryable, box: SecretBox, leaseMs = 60_000) {
    this.#database = database;
    this.#box = box;
    this.#leaseMs = leaseMs;
  }

  async get(key: string): Promise<StoredTokens | undefined> {
    const [row] = await this.#database.query<{ sealed: string; unused: boolean }>(
      `select sealed, updated_at < now() - interval '1 day' as unused from flowpost.tokens where key = $1`,
      [key],
    );
    if (!row) return undefined;
    // What is not used is thrown away in the end. Nobody waits for writing down that this one is.
    if (row.unused)
      this.#database
        .query('update flowpost.tokens set updated_at = now() where key = $1', [key])
        .catch(() => undefined);
    // Not as if there were none: a refresh token in it may be the only one that works.
    return openTokens(row.sealed, this.#box).catch(sealedElsewhere);
  }

  async set(key: string, tokens: StoredTokens): Promise<void> {
    const sealed = await sealTokens(tokens, this.#box);
    await this.#database.query(
      `insert into flowpost.tokens (key, sealed) values ($1, $2)
       on conflict (key) do update set sealed = excluded.sealed, updated_at = now()`,
      [key, sealed],
    );
  }

  /** @throws MailError `TOKEN_STORE_FAILED` ({@link tokensInUse}), or what `work` throws. */
  async exclusively<Value>(key: string, work: () => Promise<Value>): Promise<Value> {
    const holder = randomUUID();
    for (let waited = 0; !(await this.#lease(key, holder)); waited += pollMs) {
      if (waited > this.#leaseMs) throw tokensInUse();
      await delay(pollMs * (0.5 + Math.random()));
    }
    // An issuer may be allowed more time than a lease lasts.
    const renewing = setInterval(() => void this.#renew(key, holder), this.#leaseMs / 3);
    try {
      return await work();
    } finally {
      clearInterval(renewing);
      await this.#database
        .query('delete from flowpost.token_leases where key = $1 and holder = $2', [key, holder])
        .catch(() => undefined);
    }
  }

  async #renew(key: string, holder: string): Promise<void> {
    await this.#database
      .query(
        `update flowpost.token_leases set until = now() + $3 * interval '1 millisecond' where key = $1 and holder = $2`,
        [key, holder, this.#leaseMs],
      )
      .catch(() => undefined);
  }

  /** Takes what nobody has, or whoever has it has had for too long. */
  async #lease(key: string, holder: string): Promise<boolean> {
    const taken = await this.#database.query(
      `insert into flowpost.token_leases as lease (key, holder, until) values ($1, $2, now() + $3 * interval '1 millisecond')
       on conflict (key) do update set holder = excluded.holder, until = excluded.until where lease.until <= now()
       returning key`,
      [key, holder, this.#leaseMs],
    );
    return taken.length > 0;
  }
}
