import { randomUUID } from 'node:crypto';
import { constants, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  EncryptedText,
  MailError,
  type SecretBox,
  SecretText,
  type StoredTokens,
  type TokenStore,
} from '@flowpost/core';

/** Tokens as they stand in the file, before encryption. */
interface TokenFile {
  readonly accessToken?: string;
  readonly obtainedAt?: number;
  readonly expiresAt?: number;
  readonly refreshToken?: string;
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/**
 * Keeps tokens in a folder, one encrypted file for each credential, readable by this account only. A file is written
 * beside its place, flushed to disk, and then renamed, so that a process killed at any moment leaves the old tokens
 * or the new ones.
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

  /** @throws MailError `SECRET_KEY_MISSING` or `ENCRYPTED_TEXT_INVALID` when the file cannot be opened. */
  async get(key: string): Promise<StoredTokens | undefined> {
    let text: string;
    try {
      text = await readFile(this.#path(key), 'utf8');
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    const file: TokenFile = JSON.parse(await this.#box.decrypt(new EncryptedText(text)));
    const { accessToken, refreshToken, ...times } = file;
    return {
      ...times,
      ...(accessToken !== undefined && { accessToken: new SecretText(accessToken) }),
      ...(refreshToken !== undefined && { refreshToken: new SecretText(refreshToken) }),
    };
  }

  async set(key: string, tokens: StoredTokens): Promise<void> {
    const file: TokenFile = {
      ...tokens,
      ...(tokens.accessToken && { accessToken: tokens.accessToken.reveal() }),
      ...(tokens.refreshToken && { refreshToken: tokens.refreshToken.reveal() }),
    } as TokenFile;
    const { compact } = await this.#box.encrypt(JSON.stringify(file));
    const path = this.#path(key);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const temporary = `${path}.${randomUUID()}.tmp`;
    try {
      await using handle = await open(temporary, 'wx', 0o600);
      await handle.writeFile(compact);
      await handle.sync();
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await rename(temporary, path);
    await this.#syncFolder();
  }

  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true });
  }

  /** Makes the rename itself durable. Some systems cannot open folders; there it is as durable as it gets. */
  async #syncFolder(): Promise<void> {
    try {
      await using handle = await open(this.#folder, constants.O_RDONLY);
      await handle.sync();
    } catch (error) {
      if (!['EISDIR', 'EPERM', 'EACCES', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? ''))
        throw error;
    }
  }
}
