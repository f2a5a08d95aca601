import { writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { previewNode, previewRequest } from '@flowpost/node-adapter';
import { type Command, UsageError } from '../command-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson, say } from '../output.ts';
import type { previewSpec } from '../specs.ts';
import { bytesOf, summarize, summaryOf } from '../summary.ts';
import { readRun } from './run.ts';
import { readSettings } from './send.ts';

/** A content id as a URL holds it (RFC 2392); one that is none of that is what it is. */
function unescaped(id: string): string {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** The HTML text with its pictures in it, so that a browser shows it as it stands. */
async function htmlPage(bytes: Buffer): Promise<string> {
  const { default: PostalMime } = await import('postal-mime');
  const { html, attachments } = await PostalMime.parse(bytes, { attachmentEncoding: 'base64' });
  if (html === undefined)
    throw new UsageError('The message has no HTML text, so there is nothing for --html-out.');
  const pictures = new Map(
    attachments.flatMap(({ contentId, mimeType, content }) =>
      contentId ? [[contentId.replace(/^<|>$/g, ''), `data:${mimeType};base64,${content}`] as const] : [],
    ),
  );
  return html.replace(
    /\bcid:([^"'\s)>]+)/gi,
    (all, id: string) => pictures.get(id) ?? pictures.get(unescaped(id)) ?? all,
  );
}

/** What `flowpost preview` takes when it is given no FILE. */
const messageOptions = [
  ...(['from', 'to', 'cc', 'bcc', 'reply-to', 'subject', 'text', 'html', 'priority'] as const),
  ...(['header', 'attach', 'inline', 'set'] as const),
] as const;

/** `flowpost preview`: the exact bytes that `send` or `run` would send, on standard output. Nothing is sent. */
export const preview: Command<typeof previewSpec> = async (values, operands) => {
  const compose = async () => {
    if (operands.length > 0) {
      const given = messageOptions.find((one) => values[one] !== undefined);
      if (given !== undefined)
        throw new UsageError(`FILE says what the message is, so --${given} makes no sense with it.`);
      const { node, settings, flow, sending } = await readRun('preview', values, operands);
      return previewNode(node, settings, { flow }, sending);
    }
    if (values.flow !== undefined) throw new UsageError('--flow is the data of a FILE, and there is none.');
    if (values.files !== undefined) throw new UsageError('--files is for a FILE; here every path is yours.');
    const { request, sending } = await readSettings(values, { previewOnly: true });
    return previewRequest(request, sending);
  };
  const composed = await compose();
  const page = values['html-out'];
  if (page !== undefined) {
    const body = await bytesOf(composed);
    await writeFile(page, await htmlPage(body));
    say(`Wrote ${page}. Nothing was sent.`);
    if (values.json) printJson(await summaryOf({ ...composed, body }));
  } else if (values.json) printJson(await summaryOf(composed));
  else if (values.summary) process.stdout.write(await summarize(composed));
  else {
    const { body } = composed;
    const source = Buffer.isBuffer(body) ? Readable.from([body]) : body;
    await pipeline(source, process.stdout, { end: false }).catch((error) => {
      // Whoever listened has heard enough.
      if (error.code !== 'EPIPE') throw error;
    });
  }
  return exitCodes.sent;
};
