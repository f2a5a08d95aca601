import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const logging = fileURLToPath(new URL('./logging.ts', import.meta.url));
/** Logs more than is kept for a reader who stands still; then, told that he is back, some lines more. */
const program = `
  import { once } from 'node:events';
  const { createLogger } = await import(${JSON.stringify(logging)});
  const log = createLogger('info');
  for (let line = 0; line < 3_000; line++) log.info('x'.repeat(1_000));
  process.stderr.write('full');
  await once(process.stdin, 'data');
  for (let line = 0; line < 100; line++) log.info('after');
`;

it('a log whose reader stood still for long goes on when he is back', async () => {
  const child = spawn(process.execPath, [
    '--conditions=@flowpost/source',
    '--input-type=module',
    '-e',
    program,
  ]);
  await once(child.stderr, 'data');
  const written = text(child.stdout);
  child.stdin.end('go');
  expect((await written).match(/"after"/g)?.length).toBeGreaterThan(90);
});
