import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { formatSecretKey, generateSecretKey, MailError, SecretBox } from '@flowpost/core';

/**
 * The keys that seal secrets in the database: those of the environment, or of a file that only this account may read. The
 * file is made at the first start.
 *
 * @throws MailError `SECRET_KEY_INVALID` for keys that are none, or a file that others may read.
 */
export function openSecretBox(keys: string | undefined, file: string): SecretBox {
  if (keys !== undefined && keys.trim() !== '') return SecretBox.fromText(keys);
  if (!existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${formatSecretKey(generateSecretKey())}\n`, { mode: 0o600, flag: 'wx' });
  }
  if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0) {
    throw new MailError('SECRET_KEY_INVALID', `Others may read the key file ${file}.`, {
      hint: `Take the right away from them: chmod 600 ${file}`,
      details: { file },
    });
  }
  return SecretBox.fromText(readFileSync(file, 'utf8'));
}
