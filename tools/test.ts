// Everything a change must pass, in order of how fast it fails. Each step is quiet unless it fails.
//   --only format,lint,types,build,knip,tests   runs just these; format only so
//   --soak                               runs the long forms of the property tests
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { only: { type: 'string' }, soak: { type: 'boolean' } } });

const only = values.only?.split(',');

/** Colour is for terminals; some tools would use it elsewhere too. */
const plain = process.stdout.isTTY ? {} : { NO_COLOR: '1', FORCE_COLOR: undefined };

interface Step {
  readonly name: string;
  readonly command: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Not without being asked for. */
  readonly isExtra?: boolean;
  /** Shown while it runs; for steps that report progress themselves. */
  readonly live?: boolean;
}

const steps: readonly Step[] = [
  { name: 'format', command: ['biome', 'check', '--write', '.'], isExtra: true },
  { name: 'lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: 'types', command: ['tsc', '-p', 'tsconfig.json'] },
  { name: 'build', command: ['turbo', 'run', 'build', '--output-logs=errors-only', '--no-color'] },
  { name: 'knip', command: ['knip', '--no-progress'] },
  {
    name: 'tests',
    command: ['vitest', 'run', '--reporter=default', '--reporter=./tools/totals-reporter.ts'],
    live: true,
    // Tests of the command run what the step before has built.
    env: only && !only.includes('build') ? {} : { FLOWPOST_TEST_BUILT: '1' },
  },
];

async function run({ name, command, live, env: own }: Step): Promise<boolean> {
  const started = performance.now();
  const [program = '', ...args] = command;
  const env = { ...process.env, ...plain, ...own, ...(values.soak && { FLOWPOST_SOAK: '1' }) };
  const child = spawn(program, args, { stdio: live ? 'inherit' : ['ignore', 'pipe', 'pipe'], env });
  const output: Buffer[] = [];
  child.stdout?.on('data', (chunk) => output.push(chunk));
  child.stderr?.on('data', (chunk) => output.push(chunk));
  const code = await new Promise((resolve) => {
    child.once('error', () => resolve(1));
    child.once('close', resolve);
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (code !== 0) process.stdout.write(`${Buffer.concat(output)}\n`);
  if (code !== 0 || !live)
    process.stdout.write(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)\n`);
  return code === 0;
}

for (const step of steps) {
  if (only ? !only.includes(step.name) : step.isExtra) continue;
  const passed = await run(step);
  if (!passed) process.exit(1);
}
