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
  /**
   * Does work while nobody else who shares the store does, in whatever process: of two who use one refresh token at once, an
   * issuer that rotates them revokes both (RFC 9700 section 4.14.2). A store that only one process has needs none.
   *
   * @throws what `work` throws; MailError `TOKEN_STORE_FAILED` when it cannot be had.
   */
  exclusively?<Value>(key: string, work: () => Promise<Value>): Promise<Value>;
}

/** Keeps tokens in this process; a rotated refresh token is lost when it ends. */
export class MemoryTokenStore implements TokenStore {
  readonly #tokens = new Map<string, StoredTokens>();

  async get(key: string): Promise<StoredTokens | undefined> {
    return this.#tokens.get(key);
  }

  async set(key: string, tokens: StoredTokens): Promise<void> {
    this.#tokens.set(key, tokens);
  }
}
