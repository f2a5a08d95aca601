import { createHash } from 'node:crypto';
import { type Connection, EncryptedText } from '@flowpost/core';

/**
 * What deliveries have to share: one mailbox at one server. It has one rate limit and is as slow as it is, so nobody in another
 * lane should wait for it.
 *
 * @returns a hash, of nothing secret.
 */
export function laneOf(connection: Connection): string {
  // What is encrypted would print as ***, and so would somebody else's.
  const shown = (value: unknown): unknown => (value instanceof EncryptedText ? value.compact : value);
  const user =
    connection.auth && ('user' in connection.auth ? connection.auth.user : connection.auth.username);
  const place =
    connection.kind === 'smtp' ? (connection.service ?? connection.host) : shown(connection.tenantId);
  return createHash('sha256')
    .update(JSON.stringify([connection.kind, place, shown(user)]))
    .digest('base64url');
}
