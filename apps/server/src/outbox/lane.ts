import { createHash } from 'node:crypto';
import { type Connection, EncryptedText } from '@flowpost/core';
import { connectionTarget } from '@flowpost/transport';

/**
 * What deliveries have to share: one mailbox at one server. It has one rate limit and is as slow as it is, so nobody in another
 * lane should wait for it. Who says that it has another limit is in another lane: whoever may send could hold up the others with it.
 *
 * @returns a hash, of nothing secret.
 * @throws MailError `SERVICE_UNKNOWN`.
 */
export function laneOf(connection: Connection): string {
  // What is encrypted would print as ***, and so would somebody else's.
  const shown = (value: string | EncryptedText | undefined): string | undefined =>
    value instanceof EncryptedText ? value.compact : value?.toLowerCase();
  const user =
    connection.auth && ('user' in connection.auth ? connection.auth.user : connection.auth.username);
  const { host, limits } = connectionTarget(connection);
  // Without a login there may be several servers on a host.
  const port = connection.kind === 'smtp' && !connection.auth ? connection.port : undefined;
  const tenant = connection.kind === 'smtp' ? undefined : shown(connection.tenantId);
  return createHash('sha256')
    .update(JSON.stringify([host, port, tenant, shown(user), limits.messagesPerMinute]))
    .digest('base64url');
}
