import { Concealed, isSecretOf, secretKind } from './concealed.ts';
import { MailError } from './errors/mail-error.ts';

interface ProtectedHeader {
  readonly alg: string;
  readonly enc: string;
  readonly kid: string;
}

function readProtectedHeader(compact: string): ProtectedHeader | undefined {
  const segments = compact.split('.');
  if (segments.length !== 5 || segments[1] !== '') return undefined;
  try {
    const header = JSON.parse(Buffer.from(segments[0] ?? '', 'base64url').toString('utf8'));
    const known = header?.alg === 'dir' && header.enc === 'A256GCM' && typeof header.kid === 'string';
    return known ? header : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Base64url has several spellings for the same bytes when the last character carries unused bits. Only one
 * spelling is taken, so that no character of encrypted text can be changed unnoticed.
 */
function isCanonical(compact: string): boolean {
  return compact
    .split('.')
    .every((segment) => Buffer.from(segment, 'base64url').toString('base64url') === segment);
}

/**
 * A secret encrypted for storage: a compact JWE (RFC 7516) with `alg` `dir`, `enc` `A256GCM` and the id of the
 * key in `kid`. It prints as `***`, because whoever prints a credential should not have to know which of its
 * fields are encrypted; {@link EncryptedText.compact} is the text to store.
 */
export class EncryptedText extends Concealed<string> {
  /** Names the key that opens it. */
  readonly keyId: string;

  /** @throws MailError `ENCRYPTED_TEXT_INVALID` when the text is not such a JWE. */
  constructor(compact: string) {
    super(compact);
    const header = readProtectedHeader(compact);
    if (!header) {
      throw new MailError(
        'ENCRYPTED_TEXT_INVALID',
        'This is not encrypted text (a compact JWE with dir and A256GCM).',
      );
    }
    this.keyId = header.kid;
  }

  get [secretKind](): string {
    return 'encrypted';
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return isSecretOf(value, 'encrypted');
  }

  /** Whether a text looks like encrypted text, judged by its header alone. */
  static isEncrypted(text: string): boolean {
    return text.startsWith('eyJ') && readProtectedHeader(text) !== undefined;
  }

  /** The compact JWE, safe to store. */
  get compact(): string {
    return this.reveal();
  }
}

/** A named 256-bit key. */
export interface SecretKey {
  readonly id: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
}

const keyBytes = 32;

/** A fresh random key. Its id defaults to a short random name. */
export function generateSecretKey(
  id: string = `k-${Buffer.from(randomBytes(4)).toString('hex')}`,
): SecretKey {
  return { id, key: randomBytes(keyBytes) };
}

function randomBytes(count: number): Uint8Array {
  return globalThis.crypto.getRandomValues(new Uint8Array(count));
}

/** The text form of a key, `KEYID:KEY` with the key in base64url, as {@link SecretBox.fromText} reads it. */
export function formatSecretKey({ id, key }: SecretKey): string {
  return `${id}:${Buffer.from(key).toString('base64url')}`;
}

/**
 * Encrypts and opens secrets. The first key encrypts; every key opens. To rotate, put a new key first and keep
 * the old ones until {@link SecretBox.rotate} has been run over everything stored.
 */
export class SecretBox {
  readonly #keys: ReadonlyMap<string, Uint8Array>;
  readonly #first: SecretKey;

  /** @throws MailError `SECRET_KEY_INVALID` when there is no key, a key is not 32 bytes, or two share an id. */
  constructor(keys: readonly SecretKey[]) {
    const [first] = keys;
    if (!first) throw new MailError('SECRET_KEY_INVALID', 'At least one secret key is needed.');
    for (const { id, key } of keys) {
      // Plain JavaScript may bring the text of a key, which is for `fromText`.
      if (!/^[\w.-]{1,64}(?:~[\w-]{1,32})?$/.test(id) || key?.length !== keyBytes) {
        throw new MailError('SECRET_KEY_INVALID', 'A secret key has an invalid id, or is not 32 bytes long.');
      }
    }
    this.#first = first;
    this.#keys = new Map(keys.map(({ id, key }) => [id, key]));
    if (this.#keys.size !== keys.length) {
      throw new MailError('SECRET_KEY_INVALID', 'Two secret keys have the same id.');
    }
  }

  /** Reads keys written as `KEYID:KEY`, separated by commas or white space. */
  static fromText(text: string): SecretBox {
    const keys = text
      .split(/[\s,]+/)
      .filter((entry) => entry !== '')
      .map((entry) => {
        const colon = entry.indexOf(':');
        const text = entry.slice(colon + 1);
        // What is not canonical has been cut or mistyped; no key is too short a key.
        const key = isCanonical(text) ? Buffer.from(text, 'base64url') : Buffer.alloc(0);
        return { id: entry.slice(0, Math.max(colon, 0)), key };
      });
    return new SecretBox(keys);
  }

  async encrypt(text: string): Promise<EncryptedText> {
    const { id, key } = this.#first;
    // Loaded by whoever has something to encrypt, and by nobody else.
    const { CompactEncrypt } = await import('jose/jwe/compact/encrypt');
    const compact = await new CompactEncrypt(new TextEncoder().encode(text))
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid: id })
      .encrypt(key);
    return new EncryptedText(compact);
  }

  /**
   * @throws MailError `SECRET_KEY_MISSING` when its key is not among ours, `ENCRYPTED_TEXT_INVALID` when it was
   * changed or damaged.
   */
  async decrypt(encrypted: EncryptedText | string): Promise<string> {
    const { compact, keyId } = typeof encrypted === 'string' ? new EncryptedText(encrypted) : encrypted;
    const key = this.#keys.get(keyId);
    if (!key) {
      throw new MailError('SECRET_KEY_MISSING', `No secret key named "${keyId}" is configured.`, {
        details: { keyId },
      });
    }
    const { compactDecrypt } = await import('jose/jwe/compact/decrypt');
    try {
      if (!isCanonical(compact)) throw new Error('not canonical base64url');
      const { plaintext } = await compactDecrypt(compact, key, {
        keyManagementAlgorithms: ['dir'],
        contentEncryptionAlgorithms: ['A256GCM'],
      });
      return new TextDecoder('utf-8', { fatal: true }).decode(plaintext);
    } catch (cause) {
      throw new MailError(
        'ENCRYPTED_TEXT_INVALID',
        'Encrypted text cannot be opened: it was changed or damaged.',
        {
          details: { keyId },
          cause,
        },
      );
    }
  }

  /** Names the keys; the first one encrypts. */
  get keyIds(): readonly string[] {
    return [...this.#keys.keys()];
  }

  /** The same secret under the first key; returned as it is when it already is. */
  async rotate(encrypted: EncryptedText): Promise<EncryptedText> {
    return encrypted.keyId === this.#first.id ? encrypted : this.encrypt(await this.decrypt(encrypted));
  }

  /**
   * A box for one purpose, with keys made of these ones (HKDF, RFC 5869): this box cannot open what that one encrypts, so text
   * that was encrypted for one purpose cannot be passed off as text for another. It opens what this box encrypted, so that this
   * can be rotated into it.
   *
   * @param purpose letters, digits and dashes, at most 32; it becomes part of the keys' ids.
   */
  async derive(purpose: string): Promise<SecretBox> {
    const { subtle } = globalThis.crypto;
    const derived: SecretKey[] = [];
    for (const [id, key] of this.#keys) {
      const from = await subtle.importKey('raw', new Uint8Array(key), 'HKDF', false, ['deriveBits']);
      const info = new TextEncoder().encode(`flowpost ${purpose}`);
      const how = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info };
      const bits = await subtle.deriveBits(how, from, keyBytes * 8);
      derived.push({ id: `${id}~${purpose}`, key: new Uint8Array(bits) });
    }
    return new SecretBox([...derived, ...[...this.#keys].map(([id, key]) => ({ id, key }))]);
  }

  toJSON(): string {
    return '***';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return 'SecretBox ***';
  }
}
