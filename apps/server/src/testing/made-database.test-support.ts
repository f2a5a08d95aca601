import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { migrate } from '../database/migrate.ts';
import { openPglite } from '../database/pglite.ts';
import { startBoss } from '../outbox/outbox.ts';

const require = createRequire(import.meta.url);
/** What a database is made by. */
const makers = [
  fileURLToPath(new URL('../database/migrate.ts', import.meta.url)),
  fileURLToPath(new URL('../outbox/outbox.ts', import.meta.url)),
  ...['@electric-sql/pglite', 'pg-boss'].map((name) => require.resolve(name)),
];
const cache = fileURLToPath(new URL('../../../../node_modules/.cache/', import.meta.url));

const tar = (...args: string[]) => promisify(execFile)('tar', args);

let made: Promise<string> | undefined;

async function make(): Promise<string> {
  const hash = createHash('sha256');
  for (const maker of makers) hash.update(maker).update(readFileSync(maker));
  // In one file: a thousand small ones take longer to copy.
  const archive = `${cache}database-${hash.digest('hex').slice(0, 16)}.tar`;
  if (existsSync(archive)) return archive;
  const unfinished = `${archive}.${randomUUID()}`;
  await mkdir(dirname(unfinished), { recursive: true });
  {
    await using database = await openPglite(unfinished);
    await migrate(database);
    const boss = await startBoss(database, () => undefined);
    await boss.stop({ graceful: false });
  }
  await tar('-cf', `${unfinished}.tar`, '-C', unfinished, '.');
  await rm(unfinished, { recursive: true });
  // Another worker may have been faster, and has made the same.
  await rename(`${unfinished}.tar`, archive);
  return archive;
}

/**
 * Puts a database there, with all its tables and nothing in them, unless there is something already. Making one takes seconds each
 * time, copying one does not.
 */
export async function putDatabase(path: string): Promise<void> {
  if (existsSync(path)) return;
  made ??= make();
  await mkdir(path, { recursive: true, mode: 0o700 });
  await tar('-xf', await made, '-C', path);
}
