import { randomUUID } from 'node:crypto';
import { v7 as timeOrderedId } from 'uuid';
import { migrate } from '../database/migrate.ts';
import { openPglite } from '../database/pglite.ts';
import { rowOf } from '../outbox/delivery-row.ts';
import { DeliveryStore } from '../outbox/delivery-store.ts';
import { startBoss } from '../outbox/outbox.ts';
import { temporaryFolder } from './local-server.test-support.ts';
import { putDatabase } from './made-database.test-support.ts';

/** The outbox's tables in an embedded database, and deliveries to put into them. */
export async function openOutbox() {
  const folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  const database = await openPglite(`${folder.path}/db`);
  await migrate(database);
  const boss = await startBoss(database, () => undefined);
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
      await boss.stop({ graceful: false });
      await database[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}
