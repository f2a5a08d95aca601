import { setTimeout as delay } from 'node:timers/promises';
import type { Queryable } from './database.ts';

/** After how much that was written rows that are gone are given up, in bytes: a queue is slow to read past those. */
const vacuumAfter = 16 * 1_048_576;
/** How much may be written ahead before it is put where it belongs and its files are used again, in bytes. */
const checkpointAfter = 64 * 1_048_576;
/** What has rows that come and go. */
const tables = [
  'flowpost.delivery_requests',
  'flowpost.delivery_events',
  'flowpost.tokens',
  'pgboss.job',
  'pgboss.queue',
  'pgboss.version',
  'flowpost.deliveries',
  'flowpost.duplicates',
  'flowpost.rate_slots',
  'flowpost.workers',
];

/**
 * Does what a PostgreSQL server has processes of its own for and an embedded one does not: without checkpoints its log of what was
 * written ahead would grow for as long as it runs, and be read again in full after a crash; without vacuum the place of rows that
 * are gone would never be used again.
 *
 * @param everyMs how often it is looked whether there is something to do, in milliseconds.
 * @returns ends it.
 */
export function startUpkeep(database: Queryable, everyMs = 1_000): () => Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  const position = async (): Promise<number> => {
    const [row] = await database.query<{ at: number }>(
      "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8 as at",
    );
    return row?.at ?? 0;
  };
  const run = async (): Promise<void> => {
    let vacuumed = await position();
    let checkpointed = vacuumed;
    for (;;) {
      await delay(everyMs, undefined, { signal, ref: false });
      const at = await position();
      if (at - vacuumed < vacuumAfter) continue;
      vacuumed = at;
      // Each of them alone, so that others get their turn in between, and one that cannot be done does not keep the others from it.
      for (const table of tables)
        if (!signal.aborted) await database.query(`vacuum ${table}`).catch(() => undefined);
      if (at - checkpointed < checkpointAfter) continue;
      checkpointed = at;
      await database.query('checkpoint');
    }
  };
  // A full disk may be in its way; it comes again.
  const goOn = async (): Promise<void> => {
    while (!signal.aborted)
      await run().catch(() => delay(everyMs, undefined, { signal, ref: false }).catch(() => undefined));
  };
  const going = goOn();
  return async () => {
    ending.abort();
    await going;
  };
}
