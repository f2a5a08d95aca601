import { randomUUID } from 'node:crypto';
import { v7 as timeOrderedId } from 'uuid';
import { afterAll } from 'vitest';
import { migrate } from '../database/migrate.ts';
import { openPglite } from '../database/pglite.ts';
import { rowOf } from '../outbox/delivery-row.ts';
import { DeliveryStore } from '../outbox/delivery-store.ts';
import { startBoss } from '../outbox/outbox.ts';
import { temporaryFolder } from './local-server.test-support.ts';
import { putDatabase } from './made-database.test-support.ts';

async function open() {
  const folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  const database = await openPglite(`${folder.path}/db`);
  await migrate(database);
  return { folder, database, boss: await startBoss(database, () => undefined) };
}

/** For all tests of a file, one after another. */
let opened: ReturnType<typeof open> | undefined;
afterAll(async () => {
  if (!opened) return;
  const { folder, database, boss } = await opened;
  await boss.stop({ graceful: false });
  await database[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** The outbox's tables in an embedded database, emptied afterwards, and deliveries to put into them. */
export async function openOutbox() {
  opened ??= open();
  const { database, boss } = await opened;
  const deliveries = new DeliveryStore(database, boss);
  const worker = randomUUID();
  return {
    ...{ database, deliveries, worker },
    put: (
      lane: string,
      count: number,
      { mode = 'async', policy = {} }: { mode?: 'sync' | 'async'; policy?: object } = {},
    ) => {
      const ids = Array.from({ length: count }, () => timeOrderedId());
      const rows = ids.map((id) =>
        rowOf(
          {
            ...{ id, mode, nodeType: 'send-email', nodeId: 'n', messageId: `<${id}@x.org>`, lane },
            ...{ recipients: ['b@x.org'], subject: 'Hi', apiKey: 'k', sealed: 'x' },
            request: {
              message: { from: 'a@x.org', to: 'b@x.org' },
              policy: policy as never,
              unshared: false,
            },
          },
          worker,
        ),
      );
      return deliveries.insert(rows).then(() => ids);
    },
    jobs: () =>
      database.query<{ lane: string; count: number }>(
        `select group_id as lane, jsonb_array_length(data -> 'deliveries') as count from pgboss.job
         where name = 'deliveries' and state < 'completed' order by 1, 2 desc`,
      ),
    async [Symbol.asyncDispose]() {
      await database.query(
        `truncate flowpost.deliveries, flowpost.delivery_requests, flowpost.delivery_events, flowpost.duplicates,
           flowpost.connections, flowpost.workers, flowpost.tokens, flowpost.token_leases, flowpost.rate_slots, pgboss.job`,
      );
    },
  };
}
