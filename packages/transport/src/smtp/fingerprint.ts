import { hash, randomBytes } from 'node:crypto';
import { type Connection, EncryptedText, SecretBytes, SecretText } from '@flowpost/core';

/** Made anew for each process, so that a fingerprint tells nothing about the secrets that went into it. */
const processKey = randomBytes(32).toString('base64url');

/** Every secret in a value, in the order they stand in. */
function secretsIn(value: unknown, found: string[] = []): string[] {
  if (typeof value !== 'object' || value === null) return found;
  if (value instanceof SecretText) found.push(value.reveal());
  else if (value instanceof EncryptedText) found.push(value.compact);
  else if (value instanceof SecretBytes) found.push(Buffer.from(value.reveal()).toString('base64'));
  else for (const one of Object.values(value)) secretsIn(one, found);
  return found;
}

/**
 * Identifies a connection: the same for two connections that may share sessions, different as soon as anything
 * differs, a password included. Holds no secret in clear and is not stable across processes.
 */
export function connectionFingerprint(connection: Connection): string {
  // In JSON every secret is ***, so they count beside it.
  return hash('sha256', JSON.stringify([processKey, connection, secretsIn(connection)]), 'base64url');
}
