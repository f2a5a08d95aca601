import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeMessage } from '@flowpost/mime-attachments';
import MailComposer from 'nodemailer/lib/mail-composer';
import { median, perSecond, runJob, startJob } from './measure.ts';
import type { Report, Row } from './report.ts';

type Message = Parameters<typeof composeMessage>[0];
interface LargeResult {
  readonly bytes: number;
  readonly seconds: number;
  readonly rssGrowthMb: number;
}

const largeBytes = 200 * 1024 * 1024;
const base = {
  from: 'Ann Example <ann@example.com>',
  to: 'Ben Example <ben@example.com>',
  subject: 'Your order',
};
const paragraph = 'Thank you for your order. It leaves our house tomorrow and should be with you soon. ';
const small = { ...base, text: paragraph.repeat(6), html: `<p>${paragraph.repeat(8)}</p>` };
const withAttachment = (size: number) => {
  const content = Buffer.alloc(size, 'flowpost');
  return {
    ours: { ...small, attachments: [{ kind: 'bytes' as const, content, filename: 'a.bin' }] },
    theirs: { ...small, attachments: [{ content, filename: 'a.bin' }] },
  };
};

const build = (message: object): Promise<Buffer> =>
  new Promise((resolve, reject) =>
    new MailComposer(message).compile().build((error: Error | null, raw?: Buffer) => {
      if (error || !raw) reject(error ?? new Error('nothing was built'));
      else resolve(raw);
    }),
  );

async function compareRates(name: string, ours: Message, theirs: object): Promise<Row[]> {
  const rates = await perSecond({ flowpost: () => composeMessage(ours), nodemailer: () => build(theirs) });
  return Object.entries(rates).map(([subject, value]) => ({
    case: name,
    subject,
    metric: 'messages',
    value,
    unit: '/s',
  }));
}

/** Each subject in processes of its own, in turn; the medians of time and memory. */
async function compareLarge(name: string, kind: string, source = ''): Promise<Row[]> {
  const subjects = ['flowpost', 'nodemailer'];
  const found = new Map<string, LargeResult[]>(subjects.map((subject) => [subject, []]));
  for (let round = 0; round < 3; round++) {
    for (const subject of subjects) {
      const result = await runJob<LargeResult>('compose-large', subject, kind, source).catch(() => undefined);
      if (result) found.get(subject)?.push(result);
    }
  }
  return [...found].flatMap(([subject, results]): Row[] => {
    if (results.length === 0) return [{ case: name, subject, metric: 'failed', value: 0, unit: 'MB/s' }];
    const speed = median(results.map(({ bytes, seconds }) => bytes / 1024 / 1024 / seconds));
    const growth = median(results.map(({ rssGrowthMb }) => rssGrowthMb));
    return [
      { case: name, subject, metric: 'throughput', value: speed, unit: 'MB/s' },
      { case: name, subject, metric: 'rss growth', value: growth, unit: 'MB' },
    ];
  });
}

async function writeLarge(path: string): Promise<void> {
  await using file = await open(path, 'w');
  const block = Buffer.alloc(1024 * 1024, 'flowpost');
  for (let written = 0; written < largeBytes; written += block.length) await file.write(block);
}

/** Time for one message as recipients or bytes grow; per unit it should stay the same. */
async function growth(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const count of [1, 10, 100, 1_000, 10_000]) {
    const to = Array.from({ length: count }, (_, index) => `Person ${index} <person${index}@example.com>`);
    const rates = await perSecond({
      flowpost: () => composeMessage({ ...small, to }),
      nodemailer: () => build({ ...small, to }),
    });
    for (const [subject, rate] of Object.entries(rates)) {
      rows.push({
        case: `${count} recipients`,
        subject,
        metric: 'time',
        value: 1_000_000 / rate,
        unit: 'us',
      });
    }
  }
  for (const kilobytes of [10, 100, 1_000, 10_000]) {
    const { ours } = withAttachment(kilobytes * 1024);
    const { flowpost } = await perSecond({ flowpost: () => composeMessage(ours) });
    rows.push({
      case: `${kilobytes} kB attached`,
      subject: 'flowpost',
      metric: 'time',
      value: 1_000_000 / flowpost,
      unit: 'us',
    });
  }
  return rows;
}

/** Composing, against nodemailer's MailComposer. */
export async function compose(progress: (what: string) => void): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'flowpost-bench-'));
  try {
    const rows: Row[] = [];
    const add = async (what: string, more: Promise<Row[]>): Promise<void> => {
      progress(what);
      rows.push(...(await more));
    };
    await add('small messages', compareRates('small', small, small));
    for (const [name, size] of [
      ['attach20k', 20 * 1024],
      ['attach1m', 1024 * 1024],
    ] as const) {
      const { ours, theirs } = withAttachment(size);
      await add(name, compareRates(name, ours, theirs));
    }
    const path = join(folder, 'large.bin');
    await writeLarge(path);
    await add('a file of 200 MB', compareLarge('file200m', 'file', path));
    {
      await using server = await startJob<{ url: string }>('file-server');
      await add('a download of 200 MB', compareLarge('url200m', 'url', `${server.ready.url}/${largeBytes}`));
    }
    await add('base64 text of 100 MB', compareLarge('base64-100m', 'base64'));
    await add('growth', growth());

    const value = (name: string, subject: string, metric: string): number =>
      rows.find((row) => row.case === name && row.subject === subject && row.metric === metric)?.value ??
      Number.NaN;
    const ratio = (name: string, metric: string): number =>
      value(name, 'flowpost', metric) / value(name, 'nodemailer', metric);
    return {
      rows,
      ratios: {
        'compose.small.vs.nodemailer': ratio('small', 'messages'),
        'compose.attach20k.vs.nodemailer': ratio('attach20k', 'messages'),
        'compose.attach1m.vs.nodemailer': ratio('attach1m', 'messages'),
        'stream.file200m.vs.nodemailer': ratio('file200m', 'throughput'),
        'stream.url200m.vs.nodemailer': ratio('url200m', 'throughput'),
        'stream.base64-100m.vs.nodemailer': ratio('base64-100m', 'throughput'),
      },
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
