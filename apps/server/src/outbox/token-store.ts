import {
  EncryptedText,
  type SecretBox,
  SecretText,
  type StoredTokens,
  type TokenStore,
} from '@flowpost/core';
import type { Queryable } from '../database/database.ts';

/** Tokens in the database, sealed, so that they outlive the process and all processes share them. */
export class DatabaseTokenStore implements TokenStore {
  readonly #database: Queryable;
  readonly #box: SecretBox;

  constructor(database: Queryable, box: SecretBox) {
    this.#database = database;
    this.#box = box;
  }

  async get(key: string): Promise<StoredTokens | undefined> {
    const [row] = await this.#database.query<{ sealed: string }>(
      'select sealed from flowpost.tokens where key = $1',
      [key],
    );
    if (!row) return undefined;
    const { accessToken, refreshToken, ...rest } = JSON.parse(
      await this.#box.decrypt(new EncryptedText(row.sealed)),
    );
    return {
      ...rest,
      ...(accessToken !== undefined && { accessToken: new SecretText(accessToken) }),
      ...(refreshToken !== undefined && { refreshToken: new SecretText(refreshToken) }),
    };
  }

  async set(key: string, { accessToken, refreshToken, ...rest }: StoredTokens): Promise<void> {
    const clear = { ...rest, accessToken: accessToken?.reveal(), refreshToken: refreshToken?.reveal() };
    const { compact } = await this.#box.encrypt(JSON.stringify(clear));
    await this.#database.query(
      `insert into flowpost.tokens (key, sealed) values ($1, $2)
       on conflict (key) do update set sealed = excluded.sealed, updated_at = now()`,
      [key, compact],
    );
  }

  async delete(key: string): Promise<void> {
    await this.#database.query('delete from flowpost.tokens where key = $1', [key]);
  }
}
