import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const logging = fileURLToPath(new URL('./logging.ts', import.meta.url));
/** Logs more than is kept for a reader who stands still; then a line now and again, until told to end. */
const program = `
  import { once } from 'node:events';
  const { createLogger } = await import(${JSON.stringify(logging)});
  const log = createLogger('info');
  for (let line = 0; line < 3_000; line++) log.info('x'.repeat(1_000));
  process.stderr.write('full');
  const lines = setInterval(() => log.info('after'), 1);
  process.stdin.resume();
  await once(process.stdin, 'end');
  clearInterval(lines);
`;

it('a log whose reader stood still for long goes on when he is back', async () => {
  const child = spawn(process.execPath, [
    '--conditions=@flowpost/source',
    '--input-type=module',
    '-e',
    program,
  ]);
  await once(child.stderr, 'data');
  let seen = 0;
  for await (const line of createInterface(child.stdout)) {
    if (line.includes('"after"') && ++seen === 100) child.stdin.end();
  }
  expect(seen).toBeGreaterThanOrEqual(100);
});
