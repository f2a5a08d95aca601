import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../testing/local-server.test-support.ts';
import { putDatabase } from '../testing/made-database.test-support.ts';
import { openPglite } from './pglite.ts';
import { startUpkeep } from './upkeep.ts';

const megabytes = (folder: string): number =>
  readdirSync(folder)
    .map((name) => statSync(join(folder, name)).size)
    .reduce((sum, size) => sum + size, 0) / 1_048_576;

it('an embedded database does not grow for as long as it runs', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'db');
  await putDatabase(path);
  await using database = await openPglite(path);
  const end = startUpkeep(database, 20);
  const add = `insert into flowpost.rate_slots select md5(random()::text) || n, now() from generate_series(1, 20000) n`;
  for (let round = 0; round < 60; round++) {
    await database.query(add);
    await database.query('delete from flowpost.rate_slots');
  }
  await end();
  const [row] = await database.query<{ written: number; kept: number }>(
    `select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8 / 1048576 as written,
       pg_total_relation_size('flowpost.rate_slots')::float8 / 1048576 as kept`,
  );
  expect(row?.written).toBeGreaterThan(250);
  expect(megabytes(join(path, 'pg_wal'))).toBeLessThan(150);
  // Sixty times as much went through it.
  expect(row?.kept).toBeLessThan(60);
});
