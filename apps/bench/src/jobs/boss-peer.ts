// What one would build without us: pg-boss, and a handler that sends with nodemailer's pool. On PGlite as durable as
// ours, or on PostgreSQL. Prints how fast jobs are sent one by one, and how fast messages get through end to end.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openDurablePglite } from '@flowpost/server/durable-pglite';
import { createTransport } from 'nodemailer';
import { fromPglite, PgBoss } from 'pg-boss';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '' },
    messages: { type: 'string', default: '2000' },
    database: { type: 'string', default: '' },
  },
});
const messages = Number(values.messages);
const folder = await mkdtemp(join(tmpdir(), 'flowpost-bench-'));
const pglite =
  values.database === ''
    ? (await openDurablePglite(join(folder, 'data'), () => process.exit(1))).pglite
    : undefined;
const boss = new PgBoss(
  pglite
    ? { db: fromPglite(pglite), backend: 'pglite' }
    : { connectionString: values.database, schema: 'peer' },
);
boss.on('error', () => undefined);
await boss.start();
await boss.createQueue('mail');
await boss.createQueue('accept');
const transport = createTransport({
  ...{ pool: true as const, maxConnections: 5, maxMessages: Number.POSITIVE_INFINITY },
  ...{ host: '127.0.0.1', port: Number(values.port), secure: false, ignoreTLS: true },
});
const paragraph = 'Thank you for your order. It leaves our house tomorrow and should be with you soon. ';
const message = (number: number) => ({
  ...{ from: 'Ann Example <ann@example.com>', to: 'person0@example.com', subject: `Your order ${number}` },
  ...{ text: paragraph.repeat(6), html: `<p>${paragraph.repeat(8)}</p>` },
});

const begun = performance.now();
for (let number = 0; number < messages; number++) await boss.send('accept', message(number));
const accept = (messages / (performance.now() - begun)) * 1_000;

let done = 0;
const all = Promise.withResolvers<void>();
const started = performance.now();
await boss.work<ReturnType<typeof message>>(
  'mail',
  { batchSize: 50, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
  async (jobs) => {
    await Promise.all(jobs.map(({ data }) => transport.sendMail(data)));
    done += jobs.length;
    if (done >= messages) all.resolve();
  },
);
for (let number = 0; number < messages; number += 16) {
  await Promise.all(
    Array.from({ length: Math.min(16, messages - number) }, (_, lane) =>
      boss.send('mail', message(number + lane)),
    ),
  );
}
await all.promise;
const endToEnd = (messages / (performance.now() - started)) * 1_000;
process.stdout.write(JSON.stringify({ accept, endToEnd }));
await rm(folder, { recursive: true, force: true });
process.exit(0);
