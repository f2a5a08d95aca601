import type { SecretText } from '../secret.ts';

/** Tokens fetched for one credential. */
export interface StoredTokens {
  readonly accessToken?: SecretText;
  /** When the access token was got and when it expires, in Unix milliseconds. */
  readonly obtainedAt?: number;
  readonly expiresAt?: number;
  /** The newest refresh token, when the issuer rotates them. */
  readonly refreshToken?: SecretText;
  /** Which details of the credential the access token was got with. */
  readonly variant?: string;
}

/** Keeps tokens between sends, and between processes where the store is durable. */
export interface TokenStore {
  get(key: string): Promise<StoredTokens | undefined>;
  /** Resolves once the tokens are stored as durably as the store can. */
  set(key: string, tokens: StoredTokens): Promise<void>;
  delete(key: string): Promise<void>;
}

export class MemoryTokenStore implements TokenStore {
  readonly #tokens = new Map<string, StoredTokens>();

  async get(key: string): Promise<StoredTokens | undefined> {
    return this.#tokens.get(key);
  }

  async set(key: string, tokens: StoredTokens): Promise<void> {
    this.#tokens.set(key, tokens);
  }

  async delete(key: string): Promise<void> {
    this.#tokens.delete(key);
  }
}
