import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  EncryptedText,
  isMailError,
  lockPath,
  MailError,
  replaceFile,
  type SecretBox,
  SecretText,
  type StoredTokens,
  type TokenStore,
} from '@flowpost/core';

/** Longer than a request for a token takes, in milliseconds. */
const longestLockMs = 60_000;

/** Tokens as they stand in the file, before encryption. */
interface TokenFile {
  readonly accessToken?: string;
  readonly obtainedAt?: number;
  readonly expiresAt?: number;
  readonly refreshToken?: string;
  readonly variant?: string;
}

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
    if (text === undefined) return undefined;
    const file: TokenFile = JSON.parse(await this.#box.decrypt(new EncryptedText(text)));
    const { accessToken, refreshToken, ...rest } = file;
    return {
      ...rest,
      ...(accessToken !== undefined && { accessToken: new SecretText(accessToken) }),
      ...(refreshToken !== undefined && { refreshToken: new SecretText(refreshToken) }),
    };
  }

  /** @throws MailError `TOKEN_STORE_FAILED`. */
  async set(key: string, { accessToken, refreshToken, ...rest }: StoredTokens): Promise<void> {
    const file: TokenFile = {
      ...rest,
      ...(accessToken && { accessToken: accessToken.reveal() }),
      ...(refreshToken && { refreshToken: refreshToken.reveal() }),
    };
    const { compact } = await this.#box.encrypt(JSON.stringify(file));
    const path = this.#path(key);
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await replaceFile(path, compact, { mode: 0o600 });
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
    await mkdir(this.#folder, { recursive: true, mode: 0o700 }).catch((error) => {
      throw storeFailure('locked', path, error);
    });
    const until = performance.now() + longestLockMs;
    for (;;) {
      try {
        // Whoever takes it away believes that this process has ended; the worst that comes of it is a second request.
        return await lockPath(path, { onLost: () => undefined });
      } catch (error) {
        const isTaken = isMailError(error) && error.code === 'FOLDER_IN_USE';
        if (!isTaken || performance.now() > until) throw storeFailure('locked', path, error);
        await delay(50 + Math.random() * 50);
      }
    }
  }

  async delete(key: string): Promise<void> {
    const path = this.#path(key);
    await rm(path, { force: true }).catch((error) => {
      throw storeFailure('deleted', path, error);
    });
  }
}
