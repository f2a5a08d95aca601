import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  EncryptedText,
  formatSecretKey,
  generateSecretKey,
  MailError,
  makeFolder,
  SecretBox,
  syncFolderOf,
} from '@flowpost/core';
import type { Queryable } from '../database/database.ts';

/**
 * The keys that seal secrets in the database: those of the environment, or of a file that only this account may read. The
 * file is made at the first start.
 *
 * @throws MailError `SECRET_KEY_INVALID` for keys that are none, or a file that others may read.
 */
export async function openSecretBox(keys: string | undefined, file: string): Promise<SecretBox> {
  if (keys !== undefined && keys.trim() !== '') return SecretBox.fromText(keys);
  if (!existsSync(file)) {
    await makeFolder(dirname(file), { mode: 0o700 });
    // It has to be there after a loss of power as what it sealed is.
    const key = `${formatSecretKey(generateSecretKey())}\n`;
    writeFileSync(file, key, { mode: 0o600, flag: 'wx', flush: true });
    await syncFolderOf(file);
  }
  if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0) {
    throw new MailError('SECRET_KEY_INVALID', `Others may read the key file ${file}.`, {
      hint: `Take the right away from them: chmod 600 ${file}`,
      details: { file },
    });
  }
  return SecretBox.fromText(readFileSync(file, 'utf8'));
}

/** Something sealed with the keys of the server, by which a process sees that it has them, and how far a rotation is. */
export interface KeyCheck {
  readonly isRotated: boolean;
}

/**
 * Whether this process has the keys that what is in the database was sealed with. Without them it would take deliveries from
 * others and not be able to send them.
 *
 * @throws MailError `SECRET_KEY_MISSING`.
 */
export async function checkKeys(database: Queryable, box: SecretBox): Promise<KeyCheck> {
  const { compact } = await box.encrypt('flowpost');
  const rows = await database.query<{ sealed: string }>(
    `insert into flowpost.key_check (sealed) values ($1) on conflict (id) do update set sealed = flowpost.key_check.sealed
     returning sealed`,
    [compact],
  );
  try {
    const sealed = new EncryptedText(rows[0]?.sealed ?? '');
    await box.decrypt(sealed);
    return { isRotated: sealed.keyId === box.keyIds[0] };
  } catch (cause) {
    throw new MailError(
      'SECRET_KEY_MISSING',
      'The database was sealed with other keys than this server has.',
      {
        hint: 'Give every server on this database the same keys in FLOWPOST_KEYS; after a rotation keep the old ones behind the new one.',
        cause,
      },
    );
  }
}
