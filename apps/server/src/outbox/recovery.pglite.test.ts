import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { silentLogger } from '@flowpost/core';
import { expect, it } from 'vitest';
import type { Database } from '../database/database.ts';
import { openOutbox } from '../testing/outbox-parts.test-support.ts';
import { InHand } from './in-hand.ts';
import { Recovery } from './recovery.ts';

/** A database that counts how often deliveries of others are looked for. */
function counting(database: Database) {
  const counted = {
    looks: 0,
    beats: 0,
    database: {
      ...database,
      kind: 'postgres' as const,
      query: <Row extends object>(text: string, values?: readonly unknown[]) => {
        if (/from flowpost\.workers where[\s\S]*exists/.test(text)) counted.looks++;
        if (/^insert into flowpost\.workers .* on conflict/.test(text)) counted.beats++;
        return database.query<Row>(text, values);
      },
    },
  };
  return counted;
}

it('who has ended and left nothing is not looked after at every beat, and who left something is', async () => {
  await using parts = await openOutbox();
  const { deliveries, worker } = parts;
  const counted = counting(parts.database);
  const dead = [randomUUID(), randomUUID()];
  for (const id of dead) await parts.database.query('insert into flowpost.workers (id) values ($1)', [id]);
  const recovery = new Recovery({
    ...{ database: counted.database, deliveries, logger: silentLogger, worker, inHand: new InHand() },
    ...{ beatMs: 50, silenceMs: 1_000, onRecovered: () => undefined },
  });
  await recovery.start();
  await expect.poll(() => counted.looks).toBeGreaterThan(0);
  const { looks, beats } = counted;
  await delay(2_000);
  // A machine that stood still may have them looked for anew.
  expect(counted.beats - beats).toBeGreaterThan(3 * (counted.looks - looks) + 3);
  // One that seemed dead says something, takes a delivery, and dies.
  const [id = ''] = await parts.put('a', 1);
  await deliveries.claim(dead[0] ?? '', 1);
  await parts.database.query('update flowpost.workers set seen_at = clock_timestamp() where id = $1', [
    dead[0],
  ]);
  await expect.poll(async () => (await deliveries.get(id))?.state).toBe('queued');
  await recovery.stop();
});
