import { Concealed, isSecretOf, secretKind } from './concealed.ts';
import { EncryptedText, type SecretBox } from './encrypted-text.ts';
import { MailError } from './errors/mail-error.ts';

/** What people write where a secret is wanted: the text itself, or encrypted text. */
export type Secret = string | EncryptedText;

/** A secret in clear, such as a password or a token. It prints as `***`. */
export class SecretText extends Concealed<string> {
  get [secretKind](): string {
    return 'text';
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return isSecretOf(value, 'text');
  }
}

/** Secret bytes, such as a certificate with its private key. They print as `***`. */
export class SecretBytes extends Concealed<Uint8Array> {
  get [secretKind](): string {
    return 'bytes';
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return isSecretOf(value, 'bytes');
  }
}

/**
 * The clear text of a secret, decrypting it when it is encrypted.
 *
 * @throws MailError `SECRET_KEY_MISSING` when it is encrypted and no key for it is at hand,
 * `ENCRYPTED_TEXT_INVALID` when it is damaged, `CONNECTION_INVALID` for what is no secret.
 */
export async function revealSecret(secret: Secret | SecretText, box?: SecretBox): Promise<string> {
  if (typeof secret === 'string') return secret;
  if (secret instanceof EncryptedText) {
    if (box) return box.decrypt(secret);
    throw new MailError('SECRET_KEY_MISSING', 'A value is encrypted, but no secret key is configured.', {
      details: { keyId: secret.keyId },
    });
  }
  // Whatever else says that it reveals something may reveal what is encrypted.
  if (secret instanceof SecretText) return secret.reveal();
  throw new MailError('CONNECTION_INVALID', 'A secret is neither text nor encrypted text.');
}
