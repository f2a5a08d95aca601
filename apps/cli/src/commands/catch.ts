import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type ParsedAddress, type ReceivedMail, SmtpInbox } from '@flowpost/testing';
import { exitCodes } from '../exit-codes.ts';
import { printJson, say } from '../output.ts';
import { UsageError } from '../usage.ts';

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65535) return port;
  throw new UsageError(`--port takes a number from 0 to 65535, not ${JSON.stringify(text)}.`);
}

const format = ({ name, address }: ParsedAddress): string => (name ? `${name} <${address}>` : address);

/** What a person or a script wants to know of a message, without its attachments' bytes. */
function summarize(mail: ReceivedMail, file: string | undefined) {
  const { from, to, cc, subject, text, html, attachments, envelope, raw, messageId } = mail;
  return {
    from: from.map(format).join(', '),
    to: to.map(format),
    cc: cc.map(format),
    subject,
    messageId,
    text,
    html,
    attachments: attachments.map(({ filename, contentType, size }) => ({ filename, contentType, size })),
    envelope,
    sizeBytes: raw.length,
    ...(file !== undefined && { file }),
  };
}

function saySummary({
  from,
  to,
  cc,
  subject,
  text,
  html,
  attachments,
  file,
}: ReturnType<typeof summarize>): void {
  say('');
  say(`From:    ${from}`);
  say(`To:      ${to.join(', ')}`);
  if (cc.length > 0) say(`Cc:      ${cc.join(', ')}`);
  say(`Subject: ${subject}`);
  const parts = [text === undefined ? [] : 'text', html === undefined ? [] : 'html'].flat();
  say(`Parts:   ${parts.join(', ') || 'none'}`);
  for (const { filename, contentType, size } of attachments)
    say(`File:    ${filename} (${contentType}, ${size} bytes)`);
  if (file !== undefined) say(`Saved:   ${file}`);
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw new UsageError(`--dir ${path} cannot be a folder (${(error as NodeJS.ErrnoException).code}).`);
  }
}

/** Writes a message under the next free number; never over another one. */
async function save(folder: string, raw: Buffer): Promise<string> {
  const taken = (await readdir(folder)).map((name) => Number(/^(\d+)\.eml$/.exec(name)?.[1] ?? 0));
  for (let number = Math.max(0, ...taken) + 1; ; number++) {
    const path = join(folder, `${String(number).padStart(4, '0')}.eml`);
    try {
      await writeFile(path, raw, { flag: 'wx' });
      return path;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** `flowpost catch`: a mail server on loopback that shows what it gets, until it is interrupted. */
export async function catchMail(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      port: { type: 'string', default: '2525' },
      dir: { type: 'string' },
      json: { type: 'boolean' },
    },
    allowPositionals: false,
  });
  const { dir, json } = values;
  const files = new WeakMap<Buffer, string>();
  const requestedPort = readPort(values.port);
  if (dir !== undefined) await makeFolder(dir);
  let inbox: SmtpInbox;
  try {
    inbox = await SmtpInbox.start({
      port: requestedPort,
      refuse: {
        // Kept before the sender is told that it was taken.
        message: async (raw) => {
          if (dir === undefined) return undefined;
          try {
            files.set(raw, await save(dir, raw));
            return undefined;
          } catch (error) {
            say(`A message was refused, because it cannot be written to ${dir}: ${(error as Error).message}`);
            return { code: 451, text: '4.3.0 The message cannot be stored' };
          }
        },
      },
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new UsageError(
      `Port ${values.port} is taken. Choose another with --port, or any free one with --port 0.`,
    );
  }
  inbox.onMessage((mail) => {
    const summary = summarize(mail, files.get(mail.raw));
    if (json) printJson(summary, 0);
    else saySummary(summary);
  });
  const { host, port, url } = inbox;
  if (json) printJson({ listening: { host, port, url } }, 0);
  else say(`Catching mail at ${url}. Stop with Ctrl+C.`);
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  await inbox.close();
  return exitCodes.sent;
}
