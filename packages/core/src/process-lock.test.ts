import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { utimesSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockPath } from './process-lock.ts';

/** Not in these tests. */
const onLost = (): never => {
  throw new Error('the lock was lost');
};
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-lock-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it('is held until it is given back', async () => {
  const path = join(folder, 'thing');
  const unlock = await lockPath(path, { onLost });
  await expect(lockPath(path, { hint: 'Do this.', onLost })).rejects.toMatchObject({
    code: 'FOLDER_IN_USE',
    hint: 'Do this.',
  });
  (await lockPath(join(folder, 'thing2'), { onLost }))();
  unlock();
  expect(await readdir(folder)).toEqual([]);
  (await lockPath(path, { onLost }))();
});

it('of a process that has ended is free at once', async () => {
  const path = join(folder, 'thing');
  const unlock = await lockPath(path, { onLost });
  const [own = ''] = await readdir(folder);
  const held = JSON.parse(await readFile(join(folder, own), 'utf8'));
  unlock();
  // Of this process, which began when it began, and not of another one that has its number.
  await writeFile(`${path}.lock-b`, JSON.stringify({ ...held, beginning: '1' }));
  (await lockPath(path, { onLost }))();
  expect(await readdir(folder)).toEqual([]);
});

it("that was copied with its folder is nobody's there", async () => {
  const [original, copy] = [join(folder, 'original'), join(folder, 'copy')];
  await mkdir(original);
  const unlock = await lockPath(join(original, 'thing'), { onLost });
  await cp(original, copy, { recursive: true });
  (await lockPath(join(copy, 'thing'), { onLost }))();
  await expect(lockPath(join(original, 'thing'), { onLost })).rejects.toMatchObject({
    code: 'FOLDER_IN_USE',
  });
  unlock();
});

it('of a process elsewhere is held as long as it is touched, whatever its clock says', async () => {
  const path = join(folder, 'thing');
  const other = `${path}.lock-a`;
  await writeFile(other, '{"pid":1,"beginning":"","numberSpace":"elsewhere"}');
  let at = Date.now() - 3_600_000;
  const touching = setInterval(() => {
    at += 2_000;
    utimesSync(other, at / 1_000, at / 1_000);
  }, 300);
  await expect(lockPath(path, { onLost })).rejects.toMatchObject({ code: 'FOLDER_IN_USE' });
  clearInterval(touching);
  const unlock = await lockPath(path, { onLost });
  // The other one was only stopped for long, and finds out that it was given up.
  expect(await readdir(folder)).toHaveLength(1);
  unlock();
});

it('is lost by who was stopped for so long that somebody else took it', async () => {
  const path = join(folder, 'thing');
  const lost = Promise.withResolvers<void>();
  const unlock = await lockPath(path, { onLost: lost.resolve });
  const [own = ''] = await readdir(folder);
  await rm(join(folder, own));
  // Taken away by one who tidies up, it is taken again.
  await expect.poll(() => readdir(folder)).toEqual([own]);
  await rm(join(folder, own));
  await writeFile(`${path}.lock-a`, '{"pid":1,"beginning":"","numberSpace":"elsewhere"}');
  await lost.promise;
  unlock();
});

it('many processes at once never have it together', async () => {
  const program = `
    import { appendFileSync } from 'node:fs';
    import { setTimeout as delay } from 'node:timers/promises';
    import { lockPath } from ${JSON.stringify(new URL('process-lock.ts', import.meta.url).href)};
    for (let times = 0; times < 15; ) {
      const unlock = await lockPath('thing', { onLost() {} }).catch(() => undefined);
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
});

it.runIf(process.platform === 'linux')(
  'of a process that has ended and that nobody has asked after is free',
  async () => {
    const path = join(folder, 'thing');
    const unlock = await lockPath(path, { onLost });
    const [own = ''] = await readdir(folder);
    const held = JSON.parse(await readFile(join(folder, own), 'utf8'));
    unlock();
    // Its parent becomes a program that does not know of it.
    const parent = spawn('sh', ['-c', 'sleep 0.3 & echo $!; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      const [line] = await once(parent.stdout, 'data');
      const pid = Number(String(line));
      const fields = async () =>
        (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
      const [, , , , , , , , , , , , , , , , , , , beginning] = await fields();
      await writeFile(`${path}.lock-b`, JSON.stringify({ ...held, pid, beginning }));
      await expect(lockPath(path, { onLost })).rejects.toMatchObject({ code: 'FOLDER_IN_USE' });
      await expect.poll(async () => (await fields())[0]).toBe('Z');
      (await lockPath(path, { onLost }))();
    } finally {
      parent.kill();
    }
  },
);
