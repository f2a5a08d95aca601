import {
  type Clock,
  copyMailError,
  isMailError,
  isTokensInUse,
  type Logger,
  type SecretText,
  type StoredTokens,
  silentLogger,
  systemClock,
  type TokenStore,
  toMailError,
  untilAborted,
} from '@flowpost/core';
import { KeptTokens } from './kept-tokens.ts';
import type { IssuedToken } from './token-endpoint.ts';
import {
  type Asking,
  Entry,
  type Failures,
  isUnexpired,
  isValid,
  mostVariants,
  type ValidTokens,
  withoutAccess,
} from './token-entry.ts';

const firstBackoffMs = 1_000;
const longestBackoffMs = 30_000;
/** What an issuer may ask for with Retry-After, and no longer. */
const longestRetryAfterMs = 3_600_000;

/** Of so many credentials it is remembered that they failed; each connection that comes with its own secret is one. */
const mostEntries = 1_000;

/**
 * Gets a token from the issuer. `stored` is what is known of the credential so far; `onRequest` is called before the
 * issuer is asked, so that only real requests are followed by a back-off; `onRotated` with a new refresh token as soon as it is
 * there, whatever is wrong with the answer it came in.
 */
export type FetchToken = (
  stored: StoredTokens | undefined,
  onRequest: () => void,
  onRotated: (refreshToken: SecretText) => void,
) => Promise<IssuedToken>;

/** Whose time a cache goes by, and where it says what it did. */
export interface TokenCacheOptions {
  readonly clock?: Clock | undefined;
  readonly logger?: Logger | undefined;
}

/** A token that is being got, for whoever gets it. */
type Begun = Omit<Asking, 'tokens'>;

/** Whose tokens: `key` names the credential, `variant` its details that may change while refresh tokens stay good. */
export interface TokenName {
  readonly key: string;
  readonly variant?: string | undefined;
}

/**
 * Keeps access tokens until they are about to expire. For each key there is at most one request under way, whoever
 * asks; nobody's cancellation ends it for the others. A failure is not remembered as an answer, but the next request
 * waits a little, longer each time.
 */
export class TokenCache {
  readonly #kept: KeptTokens;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #entries = new Map<string, Entry>();

  constructor(store: TokenStore, options: TokenCacheOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#kept = new KeptTokens(store, this.#logger);
  }

  #entry(key: string): Entry {
    const entry = this.#entries.get(key) ?? new Entry();
    // Again at the end: the first one is that which nobody has asked for the longest.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size > mostEntries) this.#forgetOne(entry);
    return entry;
  }

  #forgetOne(except: Entry): void {
    for (const [key, entry] of this.#entries) {
      if (entry === except || !entry.isIdle) continue;
      this.#entries.delete(key);
      return;
    }
  }

  /** Resolves when no issuer is being asked any more, whoever waits for its answer, and what it said is stored. */
  async settled(): Promise<void> {
    const asking = [...this.#entries.values()].flatMap(({ pending }) => [...pending.values()]);
    await Promise.allSettled(asking.filter(({ hasAsked }) => hasAsked).map(({ tokens }) => tokens));
  }

  /** @throws what `fetch` throws; the signal's reason when aborted. */
  async get(name: TokenName, fetch: FetchToken, signal?: AbortSignal): Promise<ValidTokens> {
    signal?.throwIfAborted();
    const entry = this.#entry(name.key);
    for (;;) {
      const pending = entry.pending.get(name.variant);
      const asking = pending && !pending.nobody.signal.aborted ? pending : this.#ask(name, entry, fetch);
      asking.waiting++;
      try {
        // One's own signal ends one's own waiting only.
        const tokens = await untilAborted(signal, () => asking.tokens).catch((error) => {
          throw error === signal?.reason ? error : copyMailError(error);
        });
        // Who asked before the refusal may have found the refused one.
        if (!entry.refused.has(tokens.accessToken.reveal())) return tokens;
      } finally {
        if (--asking.waiting === 0) asking.nobody.abort();
      }
    }
  }

  #ask(name: TokenName, entry: Entry, fetch: FetchToken): Asking {
    const { variant } = name;
    const begun = { waiting: 0, nobody: new AbortController(), hasAsked: false };
    const tokens = this.#waitFor(name, entry, fetch, begun).finally(() => {
      if (entry.pending.get(variant) === asking) entry.pending.delete(variant);
    });
    const asking: Asking = Object.assign(begun, { tokens });
    entry.pending.set(variant, asking);
    // Everybody may have stopped waiting by the time it fails.
    tokens.catch(() => undefined);
    return asking;
  }

  /**
   * An access token that a server refused is not given out any more. In the store it stays until the next one takes its place:
   * taking it out would mean waiting for whoever shares the store and asks its issuer now.
   */
  invalidate({ key }: TokenName, refused: string): void {
    this.#entry(key).refuse(refused);
  }

  /** What is stored, as far as it is good for this variant of the credential and not refused. */
  async #known({ key, variant }: TokenName, entry: Entry): Promise<StoredTokens | undefined> {
    const stored = await this.#kept.read(key, entry);
    if (!stored) return undefined;
    const isRefused = stored.accessToken !== undefined && entry.refused.has(stored.accessToken.reveal());
    if (stored.variant === variant) return isRefused ? withoutAccess(stored) : stored;
    const { refreshToken } = stored;
    // Another secret's token has taken its place.
    const own = stored.accessToken && entry.ownOf(variant);
    return own ? { ...own, ...(refreshToken && { refreshToken }) } : refreshToken && withoutAccess(stored);
  }

  /** Whose issuer may not be asked yet waits in nobody's way: of the same credential another secret may be the right one. */
  async #waitFor(name: TokenName, entry: Entry, fetch: FetchToken, asking: Begun): Promise<ValidTokens> {
    for (;;) {
      const tokens = await entry.inTurn(() => this.#obtain(name, entry, fetch, asking));
      if (tokens) return tokens;
      await this.#backOff(entry.failures.get(name.variant), asking.nobody.signal);
    }
  }

  /** @returns undefined when the issuer may not be asked yet. */
  async #obtain(
    name: TokenName,
    entry: Entry,
    fetch: FetchToken,
    asking: Begun,
  ): Promise<ValidTokens | undefined> {
    const { key, variant } = name;
    const { signal: nobody } = asking.nobody;
    const stored = await this.#known(name, entry);
    if (isValid(stored, this.#clock.now())) {
      if (entry.unsaved) await this.#kept.save(key, entry);
      return stored;
    }
    // It ends soon, but nobody need wait for its successor before it has.
    if (this.#waitMs(entry.failures.get(variant)) > 0)
      return isUnexpired(stored, this.#clock.now()) ? stored : undefined;
    try {
      const request = () => {
        // Nothing was asked for, so nothing is lost.
        nobody.throwIfAborted();
        return this.#request(name, entry, fetch, asking);
      };
      return await this.#kept.alone(key, request, (error) => {
        // Of two who use one refresh token at once an issuer may revoke both.
        if (isTokensInUse(error)) throw error;
        const { code } = toMailError(error);
        // A store that can be read and not written to, mostly. A token is worth more than being alone.
        this.#logger.warn('tokens cannot be locked; another process may ask for one too', { code });
        return request();
      });
    } catch (error) {
      if (nobody.aborted || !isUnexpired(stored, this.#clock.now())) throw error;
      const code = isMailError(error) ? error.code : undefined;
      this.#logger.warn('no new token was to be had; the one there is still good', { code });
      return stored;
    }
  }

  async #request(name: TokenName, entry: Entry, fetch: FetchToken, asking: Begun): Promise<ValidTokens> {
    const { key, variant } = name;
    // Whoever was at it before has left a new one.
    const stored = await this.#known(name, entry);
    if (isValid(stored, this.#clock.now())) return stored;
    asking.hasAsked = false;
    let rotated: SecretText | undefined;
    let from = stored;
    try {
      const onRequest = (): void => {
        asking.hasAsked = true;
      };
      const onRotated = (refreshToken: SecretText): void => {
        rotated = refreshToken;
      };
      const issued = await fetch(stored, onRequest, onRotated).catch(async (error) => {
        if (!isMailError(error) || error.code !== 'TOKEN_GRANT_REFUSED') throw error;
        // Another process may have rotated the refresh token meanwhile; then its successor is in the store.
        const newer = await this.#known(name, entry).catch(() => {
          throw error;
        });
        if (newer?.refreshToken?.reveal() === stored?.refreshToken?.reveal()) throw error;
        from = newer;
        return isValid(newer, this.#clock.now()) ? newer : fetch(newer, onRequest, onRotated);
      });
      const refreshToken = issued.refreshToken ?? from?.refreshToken;
      const tokens = {
        ...issued,
        ...(refreshToken !== undefined && { refreshToken }),
        ...(variant !== undefined && { variant }),
      };
      // A rotated refresh token is the only one that still works, so it is kept before anything else happens.
      await this.#kept.write(key, entry, tokens, from);
      entry.failures.delete(variant);
      entry.keepOwn(variant, tokens);
      return tokens;
    } catch (error) {
      if (asking.hasAsked) this.#remember(entry, variant, error);
      if (rotated) {
        const kept = isUnexpired(from, this.#clock.now()) ? from : withoutAccess({ variant });
        await this.#kept.write(key, entry, { ...kept, refreshToken: rotated }, from);
      }
      throw error;
    }
  }

  #remember(entry: Entry, variant: string | undefined, error: unknown): void {
    const count = (entry.failures.get(variant)?.count ?? 0) + 1;
    const wished = isMailError(error) ? Number(error.details.retryAfterMs ?? 0) : 0;
    const growing = Math.min(firstBackoffMs * 2 ** (count - 1), longestBackoffMs);
    const delay = Math.max(Math.min(wished, longestRetryAfterMs), growing);
    if (entry.failures.size > mostVariants) entry.failures.clear();
    entry.failures.set(variant, { count, delay, until: this.#clock.now() + delay, error });
  }

  /** How long until the issuer may be asked again, in milliseconds. */
  #waitMs(failures: Failures | undefined): number {
    const wait = (failures?.until ?? 0) - this.#clock.now();
    // Longer than it was meant to be: the clock was set back.
    return failures && wait > 0 && wait <= failures.delay ? wait : 0;
  }

  /**
   * Waits until the issuer may be asked again; a wait nobody would sit through ends with the last error at once, and one that nobody
   * sits through any more with the signal.
   */
  async #backOff(failures: Failures | undefined, nobody: AbortSignal): Promise<void> {
    const wait = this.#waitMs(failures);
    if (wait === 0) return;
    if (wait > longestBackoffMs) throw copyMailError(failures?.error, { retryAfterMs: wait });
    await this.#clock.sleep(wait, nobody);
  }
}

const shared = new WeakMap<TokenStore, TokenCache>();

/** The cache over a store. There is one for each store, so that two providers do not use up the same refresh token. */
export function tokenCacheFor(store: TokenStore, options: TokenCacheOptions): TokenCache {
  const cache = shared.get(store) ?? new TokenCache(store, options);
  shared.set(store, cache);
  return cache;
}

/**
 * Resolves when no token is being got any more for a store. A process that ends before may lose a refresh token that its issuer has
 * rotated, which is the only one that still works (RFC 6749 section 6).
 */
export async function settledTokens(store: TokenStore): Promise<void> {
  await shared.get(store)?.settled();
}
