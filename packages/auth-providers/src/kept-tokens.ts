import { isMailError, type Logger, MailError, type StoredTokens, type TokenStore } from '@flowpost/core';
import type { Entry } from './token-entry.ts';

const refreshTokenOf = (tokens: StoredTokens | undefined): string | undefined =>
  tokens?.refreshToken?.reveal();

/** What is in a store, and what should be and could not be written. */
export class KeptTokens {
  readonly #store: TokenStore;
  readonly #logger: Logger;

  constructor(store: TokenStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  /** @throws MailError `TOKEN_STORE_FAILED`. */
  async read(key: string, entry: Entry): Promise<StoredTokens | undefined> {
    const { unsaved } = entry;
    if (!unsaved) return this.#stored(key);
    // Where the store cannot be read there is only this.
    const stored = await this.#stored(key).catch(() => unsaved.tokens);
    // A store that has lost what it had, or came back empty, says nothing of a successor.
    if (stored === undefined || unsaved.ours.has(refreshTokenOf(stored))) return unsaved.tokens;
    // Somebody has gone on from there.
    entry.unsaved = undefined;
    return stored;
  }

  async #stored(key: string): Promise<StoredTokens | undefined> {
    try {
      return await this.#store.get(key);
    } catch (cause) {
      if (isMailError(cause)) throw cause;
      const { code: reason } = (cause ?? {}) as NodeJS.ErrnoException;
      throw new MailError('TOKEN_STORE_FAILED', 'Stored tokens cannot be read.', {
        ...{ phase: 'token', retryable: true, cause },
        hint: 'The store for tokens failed. Nothing was sent; try again later.',
        ...(reason !== undefined && { details: { reason } }),
      });
    }
  }

  /** A store that fails loses nothing: the tokens are kept here, and written with the next ones. */
  async write(
    key: string,
    entry: Entry,
    tokens: StoredTokens,
    before: StoredTokens | undefined,
  ): Promise<void> {
    const ours = entry.unsaved?.ours ?? [refreshTokenOf(before)];
    entry.unsaved = { tokens, ours: new Set([...ours, refreshTokenOf(tokens)]) };
    try {
      await this.#store.set(key, tokens);
      entry.unsaved = undefined;
    } catch (error) {
      const code = isMailError(error) ? error.code : ((error ?? {}) as NodeJS.ErrnoException).code;
      this.#logger.error('tokens could not be stored and are kept in memory', { code });
    }
  }

  /** Writes what could not be written, unless somebody has gone on from there. */
  async save(key: string, entry: Entry): Promise<void> {
    const write = async (): Promise<void> => {
      await this.read(key, entry);
      const { unsaved } = entry;
      if (unsaved) await this.write(key, entry, unsaved.tokens, undefined);
    };
    await this.alone(key, write, () => Promise.resolve());
  }

  /** Alone among all who share the store, where it can see to that; when it fails to, `unlocked` decides, given the failure. */
  async alone<Value>(
    key: string,
    work: () => Promise<Value>,
    unlocked: (error: unknown) => Promise<Value>,
  ): Promise<Value> {
    if (!this.#store.exclusively) return work();
    let isBegun = false;
    let done: { readonly value: Value } | undefined;
    try {
      return await this.#store.exclusively(key, async () => {
        isBegun = true;
        const value = await work();
        done = { value };
        return value;
      });
    } catch (error) {
      // A lock that could not be given back changes nothing about what was done under it.
      if (done) return done.value;
      if (isBegun) throw error;
      return unlocked(error);
    }
  }
}
