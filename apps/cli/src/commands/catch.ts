import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
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
  if (dir !== undefined) await mkdir(dir, { recursive: true });
  let inbox: SmtpInbox;
  try {
    inbox = await SmtpInbox.start({ port: readPort(values.port) });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new UsageError(
      `Port ${values.port} is taken. Choose another with --port, or any free one with --port 0.`,
    );
  }
  let count = 0;
  inbox.onMessage(async (mail) => {
    const file = dir === undefined ? undefined : join(dir, `${String(++count).padStart(4, '0')}.eml`);
    if (file !== undefined) await writeFile(file, mail.raw);
    const summary = summarize(mail, file);
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
