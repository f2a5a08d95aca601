import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { FileTokenStore, settledTokens } from '@flowpost/auth-providers';
import {
  isAsWritten,
  type Logger,
  MailError,
  parseExactly,
  SecretBox,
  silentLogger,
  type TokenStore,
} from '@flowpost/core';
import { UsageError } from './command-line.ts';
import { say } from './output.ts';

/** Why a file cannot be read, for people. */
export function unreadable(path: string, cause: unknown): MailError {
  const reason = (cause as NodeJS.ErrnoException).code;
  const why = reason === 'EISDIR' ? 'is a folder, not a file' : `cannot be read (${reason})`;
  return new MailError('FILE_UNREADABLE', `${path} ${why}.`, { details: { path, reason }, cause });
}

/** What is wrong in a file, for people. */
export const invalid = (path: string, message: string, hint: string): MailError =>
  new MailError('INPUT_INVALID', `${path}: ${message}.`, { hint, details: { path } });

/** What to do about a text that is not UTF-8. */
export const utf8Hint = 'Save it as UTF-8, or convert it with iconv -t UTF-8.';

/**
 * Bytes as text, without the byte order mark that editors put there.
 *
 * @throws what `refuse` makes of bytes that are not UTF-8: they would go out as nonsense.
 */
export function textOf(bytes: Uint8Array, refuse: (cause: unknown) => MailError): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw refuse(cause);
  }
}

/** @throws MailError `FILE_UNREADABLE` for what is not UTF-8. */
export const decodeText = (bytes: Uint8Array, name: string): string =>
  textOf(
    bytes,
    (cause) =>
      new MailError('FILE_UNREADABLE', `${name} is not UTF-8.`, {
        hint: utf8Hint,
        details: { path: name },
        cause,
      }),
  );

/** @throws MailError `FILE_UNREADABLE`. */
export async function readBytes(path: string): Promise<Buffer> {
  return readFile(path).catch((cause) => {
    throw unreadable(path, cause);
  });
}

/** @throws MailError `FILE_UNREADABLE`. */
export const readText = async (path: string): Promise<string> => decodeText(await readBytes(path), path);

/** @throws MailError `FILE_UNREADABLE` when the file is missing or not JSON. Its content is not repeated. Numbers are as {@link parseExactly} has them. */
export async function readJson(path: string): Promise<unknown> {
  const content = await readText(path);
  try {
    return parseExactly(content);
  } catch {
    throw new MailError('FILE_UNREADABLE', `${path} is not valid JSON.`, { details: { path } });
  }
}

/**
 * What a YAML text says. Of one that is not quite YAML nothing is repeated: where it stands may be a secret.
 *
 * @param asWritten a number that would look otherwise than it is written, such as 0042, is a text.
 * @returns the value, or the line that is wrong, from 1, where that is known.
 */
export async function readYaml(
  content: string,
  asWritten = false,
): Promise<{ value: unknown } | { line: number | undefined }> {
  const { parseDocument, visit } = await import('yaml');
  const document = parseDocument(content, { logLevel: 'silent' });
  // A word behind an exclamation mark is a tag and no value, which only earns a warning.
  const [wrong] = [...document.errors, ...document.warnings];
  if (wrong) return { line: wrong.linePos?.[0].line };
  if (asWritten)
    visit(document, {
      Scalar(_key, scalar) {
        const { value, source } = scalar;
        if (typeof value === 'number' && source !== undefined && !isAsWritten(value, source))
          scalar.value = source;
      },
    });
  try {
    return { value: document.toJS() };
  } catch {
    return { line: undefined };
  }
}

/** The value itself, or the content of a file named as `@FILE`, or standard input for `@-`. */
export async function readValue(value: string): Promise<string> {
  if (value === '@-') {
    if (process.stdin.readableEnded)
      throw new UsageError('Standard input can be read once only, so give @- once.');
    return decodeText(await buffer(process.stdin), 'Standard input');
  }
  return value.startsWith('@') ? readText(value.slice(1)) : value;
}

/** The keys in FLOWPOST_KEYS, when there are any. */
export function secretBox(): SecretBox | undefined {
  const keys = process.env.FLOWPOST_KEYS;
  return keys ? SecretBox.fromText(keys) : undefined;
}

/** Those that outlive this process. */
const stores = new Set<TokenStore>();

/** Resolves when every token that is being got has been kept: a rotated refresh token that is lost is the only one that works. */
export const settledStores = (): Promise<unknown> => Promise.all([...stores].map(settledTokens));

/** What would be lost without a word: nothing else of what the packages report is news beside the outcome. */
const logger: Logger = {
  ...silentLogger,
  error: (message, { code } = {}) =>
    say(`Warning: ${message}${typeof code === 'string' ? ` (${code})` : ''}.`, 'error'),
};

/** Where tokens are kept between runs: encrypted in the folder FLOWPOST_TOKENS, when it is set. */
function tokenStore(): TokenStore | undefined {
  const folder = process.env.FLOWPOST_TOKENS;
  if (!folder) return undefined;
  const box = secretBox();
  if (box) {
    const store = new FileTokenStore(folder, box);
    stores.add(store);
    return store;
  }
  // Nothing is wrong until there is a token to keep.
  const fail = async (): Promise<never> => {
    throw new MailError('SECRET_KEY_MISSING', 'FLOWPOST_TOKENS is set, and FLOWPOST_KEYS is not.', {
      hint: 'Tokens are kept encrypted. Make a key with flowpost secret keygen and put it into FLOWPOST_KEYS.',
    });
  };
  return { get: fail, set: fail };
}

/** What the environment says about secrets and tokens, for whatever sends. */
export function environmentOptions() {
  return { secretBox: secretBox(), logger, auth: { tokenStore: tokenStore() } };
}
