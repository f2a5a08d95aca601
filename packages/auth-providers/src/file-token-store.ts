import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  isMailError,
  lockPath,
  MailError,
  makeFolder,
  replaceFile,
  type SecretBox,
  type StoredTokens,
  type TokenStore,
  tokensInUse,
} from '@flowpost/core';
import { openTokens, sealTokens } from './sealed-tokens.ts';

/** Longer than a request for a token takes, in milliseconds. */
const longestLockMs = 60_000;

function storeFailure(what: string, path: string, cause: unknown): MailError {
  const reason = (cause as NodeJS.ErrnoException).code;
  return new MailError('TOKEN_STORE_FAILED', `Stored tokens cannot be ${what} (${reason}).`, {
    phase: 'token',
    details: { path, reason },
    cause,
  });
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/**
 * Keeps tokens in a folder, one encrypted file for each credential, readable by this account only. A process killed at any
 * moment leaves the old tokens or the new ones.
 */
export class FileTokenStore implements TokenStore {
  readonly #folder: string;
  readonly #box: SecretBox;

  constructor(folder: string, box: SecretBox) {
    this.#folder = folder;
    this.#box = box;
  }

  #path(key: string): string {
    if (/^[\w-]{1,128}$/.test(key)) return join(this.#folder, `${key}.jwe`);
    throw new MailError('INTERNAL', 'A token key is not usable as a file name.', { phase: 'token' });
  }

  /** @throws MailError `SECRET_KEY_MISSING`, `ENCRYPTED_TEXT_INVALID` or `TOKEN_STORE_FAILED`. */
  async get(key: string): Promise<StoredTokens | undefined> {
    const path = this.#path(key);
    const text = await readFile(path, 'utf8').catch((error) => {
      if (isMissing(error)) return undefined;
      throw storeFailure('read', path, error);
    });
    return text === undefined ? undefined : openTokens(text, this.#box);
  }

  /** @throws MailError `TOKEN_STORE_FAILED`. */
  async set(key: string, tokens: StoredTokens): Promise<void> {
    const sealed = await sealTokens(tokens, this.#box);
    const path = this.#path(key);
    try {
      await makeFolder(this.#folder, { mode: 0o700 });
      await replaceFile(path, sealed, { mode: 0o600 });
    } catch (error) {
      throw storeFailure('written', path, error);
    }
  }

  /** @throws MailError `TOKEN_STORE_FAILED`, or what `work` throws. */
  async exclusively<Value>(key: string, work: () => Promise<Value>): Promise<Value> {
    const unlock = await this.#lock(this.#path(key));
    try {
      return await work();
    } finally {
      unlock();
    }
  }

  async #lock(path: string): Promise<() => void> {
    await makeFolder(this.#folder, { mode: 0o700 }).catch((error) => {
      throw storeFailure('locked', path, error);
    });
    const until = performance.now() + longestLockMs;
    for (;;) {
      try {
        // Whoever takes it away believes that this process has ended; the worst that comes of it is a second request.
        return await lockPath(path, { onLost: () => undefined });
      } catch (error) {
        const isTaken = isMailError(error) && error.code === 'FOLDER_IN_USE';
        if (!isTaken) throw storeFailure('locked', path, error);
        if (performance.now() > until) throw tokensInUse();
        await delay(50 + Math.random() * 50);
      }
    }
  }
}
