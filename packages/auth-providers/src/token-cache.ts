import {
  type Clock,
  isMailError,
  type Logger,
  type StoredTokens,
  silentLogger,
  systemClock,
  type TokenStore,
} from '@flowpost/core';
import type { IssuedToken } from './token-endpoint.ts';

/** A token is replaced this long before it expires, so that it does not expire on the way. */
const expiryMarginMs = 300_000;
const firstBackoffMs = 1_000;
const longestBackoffMs = 30_000;

/** Gets a token from the issuer. `stored` is what is known of the credential so far. */
export type FetchToken = (stored: StoredTokens | undefined, signal: AbortSignal) => Promise<IssuedToken>;

export interface TokenCacheOptions {
  readonly clock?: Clock | undefined;
  readonly logger?: Logger | undefined;
}

interface Failures {
  readonly count: number;
  readonly until: number;
  readonly error: unknown;
}

/** A valid access token, as stored. */
export type ValidTokens = StoredTokens & Required<Pick<StoredTokens, 'accessToken'>>;

function isValid(tokens: StoredTokens | undefined, now: number): tokens is ValidTokens {
  if (tokens?.accessToken === undefined) return false;
  const { expiresAt, obtainedAt } = tokens;
  if (expiresAt === undefined) return true;
  // Never more than half the lifetime, or a short-lived token would count as expired from the start.
  const lifetime = expiresAt - (obtainedAt ?? expiresAt - 2 * expiryMarginMs);
  return now < expiresAt - Math.min(expiryMarginMs, lifetime / 2);
}

/** Waits for what others wait for too; one's own signal ends one's own waiting only. */
function untilAborted<Value>(promise: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * Keeps access tokens until they are about to expire. For each key there is at most one request under way, whoever
 * asks; nobody's cancellation ends it for the others. A failure is not remembered as an answer, but the next request
 * waits a little, longer each time.
 */
export class TokenCache {
  readonly #store: TokenStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #pending = new Map<string, Promise<ValidTokens>>();
  readonly #failures = new Map<string, Failures>();

  constructor(store: TokenStore, options: TokenCacheOptions = {}) {
    this.#store = store;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
  }

  /** @throws what `fetch` throws; the signal's reason when aborted. */
  get(key: string, fetch: FetchToken, signal?: AbortSignal): Promise<ValidTokens> {
    let pending = this.#pending.get(key);
    if (!pending) {
      pending = this.#obtain(key, fetch).finally(() => this.#pending.delete(key));
      // Everybody may have stopped waiting by the time it fails.
      pending.catch(() => undefined);
      this.#pending.set(key, pending);
    }
    return untilAborted(pending, signal);
  }

  /** Forgets an access token that a server refused, unless a newer one has taken its place. */
  async invalidate(key: string, refused: string): Promise<void> {
    const stored = await this.#store.get(key);
    if (stored?.accessToken?.reveal() !== refused) return;
    const { refreshToken } = stored;
    // The empty entry says that whatever access token the credential began with is used up.
    await this.#store.set(key, refreshToken === undefined ? {} : { refreshToken });
  }

  async #obtain(key: string, fetch: FetchToken): Promise<ValidTokens> {
    const stored = await this.#store.get(key);
    if (isValid(stored, this.#clock.now())) return stored;
    await this.#backOff(key);
    try {
      const issued = await fetch(stored, new AbortController().signal);
      const refreshToken = issued.refreshToken ?? stored?.refreshToken;
      const tokens = { ...issued, ...(refreshToken !== undefined && { refreshToken }) };
      // A rotated refresh token is the only one that still works, so it is kept before anything else happens.
      await this.#store.set(key, tokens);
      this.#failures.delete(key);
      this.#logger.debug('access token obtained', { expiresAt: issued.expiresAt });
      return tokens;
    } catch (error) {
      const count = (this.#failures.get(key)?.count ?? 0) + 1;
      const asked = isMailError(error) ? Number(error.details.retryAfterMs ?? 0) : 0;
      const delay = Math.max(asked, Math.min(firstBackoffMs * 2 ** (count - 1), longestBackoffMs));
      this.#failures.set(key, { count, until: this.#clock.now() + delay, error });
      throw error;
    }
  }

  /** Waits until the issuer may be asked again; a wait nobody would sit through ends with the last error at once. */
  async #backOff(key: string): Promise<void> {
    const failures = this.#failures.get(key);
    const wait = (failures?.until ?? 0) - this.#clock.now();
    if (!failures || wait <= 0) return;
    if (wait > longestBackoffMs) throw failures.error;
    await this.#clock.sleep(wait);
  }
}
