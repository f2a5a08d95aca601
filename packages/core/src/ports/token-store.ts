import { isMailError, MailError } from '../errors/mail-error.ts';
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
   * @throws what `work` throws; {@link tokensInUse} where somebody else is at it for long: then nothing is asked for. After any other
   *   failure to have it the work is done all the same.
   */
  exclusively?<Value>(key: string, work: () => Promise<Value>): Promise<Value>;
}

const inUse = 'in-use';

/** Somebody else who shares a token store has been asking for the same tokens for longer than one waits: MailError `TOKEN_STORE_FAILED`. */
export const tokensInUse = (): MailError =>
  new MailError('TOKEN_STORE_FAILED', 'Another process asks for this token all the time.', {
    ...{ phase: 'token', retryable: true, details: { reason: inUse } },
    hint: 'Its issuer may be slow. Nothing was sent; try again later.',
  });

/** Whether that is why a store could not be had. */
export const isTokensInUse = (error: unknown): boolean =>
  isMailError(error) && error.details.reason === inUse;

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
