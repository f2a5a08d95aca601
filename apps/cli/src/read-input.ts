import { readFile } from 'node:fs/promises';
import { MailError, SecretBox } from '@flowpost/core';

/** @throws MailError `FILE_UNREADABLE`. */
async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new MailError('FILE_UNREADABLE', `${path} cannot be read (${reason}).`, {
      details: { path, reason },
      cause,
    });
  }
}

/** @throws MailError `FILE_UNREADABLE` when the file is missing or not JSON. Its content is not repeated. */
export async function readJson(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text);
  } catch {
    throw new MailError('FILE_UNREADABLE', `${path} is not valid JSON.`, { details: { path } });
  }
}

/** The value itself, or the content of a file named as `@FILE`. */
export async function readValue(value: string): Promise<string> {
  return value.startsWith('@') ? readText(value.slice(1)) : value;
}

/** The keys in FLOWPOST_SECRET_KEYS, when there are any. */
export function secretBox(): SecretBox | undefined {
  const keys = process.env.FLOWPOST_SECRET_KEYS;
  return keys ? SecretBox.fromText(keys) : undefined;
}
