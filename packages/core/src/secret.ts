import { EncryptedText, type SecretBox } from './encrypted-text.ts';
import { MailError } from './errors/mail-error.ts';

/** What people write where a secret is wanted: the text itself, or encrypted text. */
export type Secret = string | EncryptedText;

/**
 * A secret in clear, held so that it cannot slip out: `String()`, template strings, `JSON.stringify` and
 * `util.inspect` all show `***`. Only {@link SecretText.reveal} gives it back.
 */
export class SecretText {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***';
  }
}

/** Secret bytes, such as a certificate with its private key, held in the same way. */
export class SecretBytes {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  reveal(): Uint8Array {
    return this.#bytes;
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***';
  }
}

/**
 * The clear text of a secret, decrypting it when it is encrypted.
 *
 * @throws MailError `SECRET_KEY_MISSING` when it is encrypted and no key for it is at hand,
 * `ENCRYPTED_TEXT_INVALID` when it is damaged.
 */
export async function revealSecret(secret: Secret | SecretText, box?: SecretBox): Promise<string> {
  if (typeof secret === 'string') return secret;
  if (secret instanceof EncryptedText) {
    if (box) return box.decrypt(secret);
    throw new MailError('SECRET_KEY_MISSING', 'A value is encrypted, but no secret key is configured.', {
      details: { keyId: secret.keyId },
    });
  }
  return secret.reveal();
}
