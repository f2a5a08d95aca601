import { createHmac, randomBytes } from 'node:crypto';
import { type Connection, EncryptedText, SecretBytes, SecretText } from '@flowpost/core';

/** Made anew for each process, so that a fingerprint tells nothing about the secrets that went into it. */
const processKey = randomBytes(32);

/**
 * Identifies a connection: the same for two connections that may share sessions, different as soon as anything
 * differs, a password included. Holds no secret in clear and is not stable across processes.
 */
export function connectionFingerprint(connection: Connection): string {
  const text = JSON.stringify(connection, function (this: Record<string, unknown>, key, value: unknown) {
    // JSON.stringify hands over what toJSON made of a secret, which is ***; the secret itself is in the holder.
    const held = this[key];
    if (held instanceof SecretText) return held.reveal();
    if (held instanceof SecretBytes) return Buffer.from(held.reveal()).toString('base64');
    if (held instanceof EncryptedText) return held.compact;
    return value;
  });
  return createHmac('sha256', processKey).update(text).digest('base64url');
}
