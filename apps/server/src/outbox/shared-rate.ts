import { createHash } from 'node:crypto';
import type { Connection } from '@flowpost/core';
import { findService } from '@flowpost/transport';
import type { Queryable } from '../database/database.ts';

/** Messages in any 60 seconds: as the connection says, or as the service is known to allow. */
function messagesPerMinute(connection: Connection): number | undefined {
  const own = connection.limits?.messagesPerMinute;
  if (own !== undefined) return own;
  if (connection.kind === 'microsoft365') return findService('Microsoft 365').profile.messagesPerMinute;
  return connection.service === undefined
    ? undefined
    : findService(connection.service).profile.messagesPerMinute;
}

/** Whose limit it is: one mailbox at one server. */
function ownerOf(connection: Connection): string {
  const user =
    connection.auth && ('user' in connection.auth ? connection.auth.user : connection.auth.username);
  const place =
    connection.kind === 'smtp' ? (connection.service ?? connection.host) : String(connection.tenantId);
  return createHash('sha256')
    .update(JSON.stringify([connection.kind, place, user]))
    .digest('base64url');
}

/** Rate limits that all processes keep together, as evenly spaced turns in the database. */
export class SharedRate {
  readonly #database: Queryable;

  constructor(database: Queryable) {
    this.#database = database;
  }

  /** Takes the next turn. @returns how long it is off, in milliseconds. */
  async take(connection: Connection): Promise<number> {
    const limit = messagesPerMinute(connection);
    if (limit === undefined) return 0;
    const [row] = await this.#database.query<{ wait: number }>(
      `insert into flowpost.rate_slots as slot (key, next_at) values ($1, now() + $2 * interval '1 millisecond')
       on conflict (key) do update set next_at = greatest(now(), slot.next_at) + $2 * interval '1 millisecond'
       returning (extract(epoch from next_at - now()) * 1000 - $2)::float8 as wait`,
      [ownerOf(connection), 60_000 / limit],
    );
    return Math.max(0, row?.wait ?? 0);
  }
}
