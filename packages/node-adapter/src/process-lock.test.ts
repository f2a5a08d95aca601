import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockPath } from './process-lock.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-lock-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it('is held until it is given back', async () => {
  const path = join(folder, 'thing');
  const unlock = await lockPath(path);
  await expect(lockPath(path, 'Do this.')).rejects.toMatchObject({ code: 'FOLDER_IN_USE', hint: 'Do this.' });
  (await lockPath(join(folder, 'thing2')))();
  unlock();
  expect(await readdir(folder)).toEqual([]);
  (await lockPath(path))();
});

it('of a process that has ended is free at once, of one elsewhere when it has not been touched for long', async () => {
  const path = join(folder, 'thing');
  await writeFile(`${path}.lock-a`, '{"pid":999999999,"beginning":"","numberSpace":"elsewhere"}');
  await expect(lockPath(path)).rejects.toMatchObject({ code: 'FOLDER_IN_USE' });
  const longAgo = new Date(Date.now() - 60_000);
  await utimes(`${path}.lock-a`, longAgo, longAgo);
  const unlock = await lockPath(path);
  const [own = ''] = await readdir(folder);
  const held = JSON.parse(await readFile(join(folder, own), 'utf8'));
  unlock();
  // Of this process, which began when it began, and not of another one that has its number.
  await writeFile(`${path}.lock-b`, JSON.stringify({ ...held, beginning: '1' }));
  (await lockPath(path))();
});

it('many processes at once never have it together', async () => {
  const program = `
    import { appendFileSync } from 'node:fs';
    import { setTimeout as delay } from 'node:timers/promises';
    import { lockPath } from ${JSON.stringify(new URL('process-lock.ts', import.meta.url).href)};
    for (let times = 0; times < 15; ) {
      const unlock = await lockPath('thing').catch(() => undefined);
      if (!unlock) continue;
      appendFileSync('log', '(');
      await delay(Math.random() * 5);
      appendFileSync('log', ')');
      unlock();
      times++;
      await delay(Math.random() * 5);
    }`;
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--conditions=@flowpost/source', '--input-type=module', '-e', program], {
      ...{ cwd: folder, stdio: 'inherit' as const },
    }),
  );
  const codes = await Promise.all(children.map((child) => once(child, 'close')));
  expect(codes.map(([code]) => code)).toEqual([0, 0, 0, 0]);
  expect(await readFile(join(folder, 'log'), 'utf8')).toBe('()'.repeat(60));
}, 60_000);
