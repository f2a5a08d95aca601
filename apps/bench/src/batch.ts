import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { buildCommand } from './cli.ts';
import { runJob, startJob } from './measure.ts';
import type { Report } from './report.ts';
import { residentMb, runProgram } from './run-program.ts';

const count = 100_000;
const paragraph = 'Thank you for your order. It leaves our house tomorrow and should be with you soon. ';
const template = `---
from: Ann Example <ann@example.com>
to: {{ row.email }}
subject: Your order {{ row.number }}
text: "Hello {{ row.name }}, ${paragraph.repeat(6)}"
---
<p>Hello {{ row.name }}, ${paragraph.repeat(8)}</p>
`;

async function writeRows(path: string, rows: number): Promise<void> {
  const file = createWriteStream(path);
  file.write('email,name,number\n');
  for (let number = 0; number < rows; number++)
    file.write(`person${number}@example.com,"Person, ${number}",${number}\n`);
  file.end();
  await finished(file);
}

/** A batch of many rows: `flowpost batch` with its journal, beside a loop around nodemailer's pool. */
export async function batch(progress: (what: string) => void): Promise<Report> {
  progress('building');
  const main = await buildCommand();
  const folder = await mkdtemp(join(tmpdir(), 'flowpost-bench-'));
  try {
    await using sink = await startJob<{ port: number }>('smtp-sink');
    const rowsFile = join(folder, 'rows.csv');
    await writeRows(rowsFile, count);
    await writeFile(join(folder, 'letter.html'), template);
    progress(`flowpost batch, ${count} rows`);
    const memory: number[] = [];
    let timer: NodeJS.Timeout | undefined;
    const { out } = await runProgram(
      process.execPath,
      [
        ...[main, 'batch', '--template', join(folder, 'letter.html'), '--rows', rowsFile, '--json'],
        ...['--connection', `smtp://127.0.0.1:${sink.ready.port}`],
      ],
      { onStart: (pid) => (timer = setInterval(() => memory.push(residentMb(pid)), 100)) },
    ).finally(() => clearInterval(timer));
    const { sent, seconds } = JSON.parse(out) as { sent: number; seconds: number };
    if (sent !== count) throw new Error(`${sent} of ${count} rows were sent`);
    progress(`nodemailer's pool, ${count} rows`);
    const peer = await runJob<{ perSecond: number }>(
      'batch-peer',
      '--port',
      `${sink.ready.port}`,
      '--rows',
      rowsFile,
    );
    const known = memory.filter((one) => Number.isFinite(one));
    // When everything is warm, and at the end.
    const early = Math.max(...known.slice(0, Math.ceil(known.length / 5)));
    const late = Math.max(...known);
    const name = `${count} rows`;
    return {
      rows: [
        { case: name, subject: 'flowpost batch', metric: 'sent', value: sent / seconds, unit: '/s' },
        { case: name, subject: 'flowpost batch', metric: 'rss', value: late, unit: 'MB' },
        { case: name, subject: 'flowpost batch', metric: 'rss growth', value: late - early, unit: 'MB' },
        { case: name, subject: 'nodemailer pool', metric: 'sent', value: peer.perSecond, unit: '/s' },
      ],
      ratios: { 'batch.vs.nodemailer-pool': sent / seconds / peer.perSecond },
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
