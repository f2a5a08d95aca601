import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startJob } from './measure.ts';
import type { Report, Row } from './report.ts';
import { compareRuns, runProgram } from './run-program.ts';

const cliFolder = dirname(fileURLToPath(import.meta.resolve('@flowpost/cli/package.json')));

/** The command as it is published, built anew. */
export async function buildCommand(): Promise<string> {
  await runProgram(process.execPath, ['build.js'], { cwd: cliFolder });
  return join(cliFolder, 'dist', 'main.cjs');
}

const isThere = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;

const rounds = 25;
const from = 'ann@example.com';
const to = 'ben@example.com';

/** What the command costs to start, and to send one message, beside other commands that do. */
export async function cli(progress: (what: string) => void): Promise<Report> {
  const rows: Row[] = [];
  progress('building');
  const main = await buildCommand();
  const folder = await mkdtemp(join(tmpdir(), 'flowpost-bench-'));
  try {
    await using sink = await startJob<{ port: number }>('smtp-sink');
    const port = `${sink.ready.port}`;
    const file = async (name: string, content: string): Promise<string> => {
      await writeFile(join(folder, name), content);
      return join(folder, name);
    };
    const peers: Record<string, readonly [string, ...string[]]> = {
      swaks: [
        'swaks',
        '--server',
        '127.0.0.1',
        '--port',
        port,
        '--from',
        from,
        '--to',
        to,
        '--header',
        'Subject: Hi',
        '--body',
        'Hello',
      ],
      msmtp: [
        ...([
          'sh',
          '-c',
          `printf 'Subject: Hi\\n\\nHello\\n' | msmtp --host=127.0.0.1 --port=${port} --from=${from} ${to}`,
        ] as const),
      ],
      'python3 smtplib': [
        'python3',
        await file(
          'send.py',
          `import smtplib\nfrom email.message import EmailMessage\nm = EmailMessage()\nm['From'], m['To'], m['Subject'] = '${from}', '${to}', 'Hi'\nm.set_content('Hello')\nwith smtplib.SMTP('127.0.0.1', ${port}) as s: s.send_message(m)\n`,
        ),
      ],
      'nodemailer script': [
        process.execPath,
        fileURLToPath(new URL('./jobs/nodemailer-once.ts', import.meta.url)),
        ...[port, from, to],
      ],
    };
    const known = { msmtp: 'msmtp', swaks: 'swaks', 'python3 smtplib': 'python3' } as Record<string, string>;
    for (const name of Object.keys(peers)) if (known[name] && !isThere(known[name])) delete peers[name];
    progress(`in turn: flowpost, ${Object.keys(peers).join(', ')}`);
    const found = await compareRuns(
      {
        node: [process.execPath, await file('empty.js', '')],
        version: [process.execPath, main, '--version'],
        send: [
          ...([process.execPath, main, 'send', '--connection', `smtp://127.0.0.1:${port}`] as const),
          ...['--from', from, '--to', to, '--subject', 'Hi', '--text', 'Hello'],
        ],
        ...peers,
      },
      rounds,
    );
    const row = (name: string, subject: string, { ms, peakMb }: { ms: number; peakMb: number }): void => {
      rows.push({ case: name, subject, metric: 'wall time', value: ms, unit: 'ms' });
      rows.push({ case: name, subject, metric: 'peak memory', value: peakMb, unit: 'MB' });
    };
    row('an empty script', 'node', found.node);
    row('--version', 'flowpost', found.version);
    row('one message', 'flowpost send', found.send);
    const others = found as Record<string, { ms: number; peakMb: number }>;
    for (const name of Object.keys(peers))
      row('one message', name, others[name] ?? { ms: Number.NaN, peakMb: Number.NaN });
    return {
      rows,
      ratios: {
        'cli.version.vs.node': found.node.ms / found.version.ms,
        ...Object.fromEntries(
          Object.keys(peers).map((name) => [
            `cli.send.vs.${name.replaceAll(' ', '-')}`,
            (others[name]?.ms ?? Number.NaN) / found.send.ms,
          ]),
        ),
      },
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
