// Composes one large message and reads it to its end; prints how long that took and what memory it needed on top.
import { readFileSync, writeFileSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { composeMessage } from '@flowpost/mime-attachments';
import MailComposer from 'nodemailer/lib/mail-composer';

const [subject = '', kind = '', source = ''] = process.argv.slice(2);
const message = { from: 'a@example.com', to: 'b@example.com', subject: 'Large', text: 'See the attachment.' };
const base64Decoded = 100 * 1024 * 1024;

const content = kind === 'base64' ? Buffer.alloc(base64Decoded, 'flowpost').toString('base64') : '';

const download = (url: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => get(url, resolve).once('error', reject));

async function ours(source: string): Promise<NodeJS.ReadableStream | Buffer> {
  const attachment =
    kind === 'base64'
      ? { kind: 'base64' as const, content, filename: 'a.bin' }
      : kind === 'url'
        ? { kind: 'url' as const, url: source }
        : { kind: 'file' as const, path: source };
  const { port } = kind === 'url' ? new URL(source) : { port: '' };
  const { body } = await composeMessage(
    { ...message, attachments: [attachment] },
    {
      attachments: {
        fileRoots: ['/'],
        maxBytes: 1 << 30,
        urls: { allowedHosts: ['127.0.0.1'], allowedPorts: [Number(port)] },
      },
    },
  );
  return body;
}

async function nodemailers(source: string): Promise<NodeJS.ReadableStream> {
  // Its own fetching stops at 64 MB, so it is handed the download as a stream.
  const attachment =
    kind === 'base64'
      ? { content, encoding: 'base64', filename: 'a.bin' }
      : kind === 'url'
        ? { content: await download(source), filename: 'a.bin' }
        : { path: source };
  return new MailComposer({ ...message, attachments: [attachment] }).compile().createReadStream();
}

const linux = process.platform === 'linux';

/** The most memory this process has had, in bytes. */
function peak(): number {
  const status = linux ? readFileSync('/proc/self/status', 'latin1') : '';
  const [, kilobytes] = /^VmHWM:\s+(\d+) kB/m.exec(status) ?? [];
  return Number(kilobytes ?? process.resourceUsage().maxRSS) * 1024;
}

/** Forgets the peak of what came before, where the system can, and returns what is in use now. */
function startPeak(): number {
  if (linux) writeFileSync('/proc/self/clear_refs', '5');
  return linux ? process.memoryUsage.rss() : peak();
}

const compose = subject === 'flowpost' ? ours : nodemailers;

/** Composes once and reads it to its end; how many bytes that were. */
async function run(from: string): Promise<number> {
  let bytes = 0;
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      done();
    },
  });
  const body = await compose(from);
  if (Buffer.isBuffer(body)) return body.length;
  await pipeline(body, sink);
  return bytes;
}

// What each loads when it fetches for the first time is not what is measured.
if (kind === 'url') await run(`${new URL(source).origin}/1000`);
global.gc?.();
const before = startPeak();
const start = performance.now();
const bytes = await run(source);
const seconds = (performance.now() - start) / 1_000;
process.stdout.write(JSON.stringify({ bytes, seconds, rssGrowthMb: (peak() - before) / 1024 / 1024 }));
