import { type Connection, EncryptedText, SecretText } from '@flowpost/core';

/**
 * A connection with its secrets in clear, as JSON that can be read again. Only to be sealed at once: everywhere else a
 * connection prints its secrets as ***.
 */
export function revealConnection(connection: Connection): string {
  return JSON.stringify(connection, function (this: Record<string, unknown>, key, value: unknown) {
    // What is handed over is what toJSON made of a secret; the secret itself is in its holder.
    const held = this[key];
    if (held instanceof SecretText) return held.reveal();
    if (held instanceof EncryptedText) return held.compact;
    return value;
  });
}
