import { parse } from 'node:path';
import { parseArgs } from 'node:util';
import type { AttachmentInput, EmailMessageInput } from '@flowpost/core';
import { createSender } from '@flowpost/transport';
import { readConnection } from '../connection-argument.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson, sayReceipt, sayTranscript } from '../output.ts';
import { environmentOptions, readValue } from '../read-input.ts';
import { UsageError } from '../usage.ts';

const text = { type: 'string' } as const;
const list = { type: 'string', multiple: true } as const;
const options = {
  connection: text,
  from: text,
  to: list,
  cc: list,
  bcc: list,
  'reply-to': list,
  subject: text,
  text,
  html: text,
  attach: list,
  inline: list,
  priority: text,
  header: list,
  json: { type: 'boolean' },
  verbose: { type: 'boolean' },
} as const;

function readAttachment(source: string): AttachmentInput {
  return /^(?:https?|data):/i.test(source) ? { kind: 'url', url: source } : { kind: 'file', path: source };
}

function readInline(argument: string): AttachmentInput {
  const equals = argument.indexOf('=');
  if (equals < 1) throw new UsageError(`--inline takes CID=PATH, not ${JSON.stringify(argument)}.`);
  return { ...readAttachment(argument.slice(equals + 1)), contentId: argument.slice(0, equals) };
}

function readHeaders(lines: readonly string[]): Record<string, string[]> {
  const headers = new Map<string, string[]>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon < 1) throw new UsageError(`--header takes 'Name: value', not ${JSON.stringify(line)}.`);
    const name = line.slice(0, colon);
    headers.set(name, [...(headers.get(name) ?? []), line.slice(colon + 1).trim()]);
  }
  return Object.fromEntries(headers);
}

/**
 * What the options of `flowpost send` and `flowpost preview` say.
 *
 * @param otherwise the connection when none is given; without it, that is an error.
 */
export async function readMessage(argv: readonly string[], otherwise?: string) {
  const { values } = parseArgs({ args: [...argv], options, allowPositionals: false });
  const connection = await readConnection(values.connection, otherwise);
  const message = {
    from: values.from,
    to: values.to ?? [],
    cc: values.cc ?? [],
    bcc: values.bcc ?? [],
    replyTo: values['reply-to'] ?? [],
    subject: values.subject,
    text: values.text === undefined ? undefined : await readValue(values.text),
    html: values.html === undefined ? undefined : await readValue(values.html),
    priority: values.priority,
    headers: readHeaders(values.header ?? []),
    attachments: [...(values.attach ?? []).map(readAttachment), ...(values.inline ?? []).map(readInline)],
    // Checked by the sender, which also knows the connection's From address.
  } as EmailMessageInput;
  // Whoever types a path means that file, wherever it is.
  const attachments = { fileRoots: [parse(process.cwd()).root] };
  return {
    connection,
    message,
    json: values.json === true,
    verbose: values.verbose === true,
    sending: { ...environmentOptions(), attachments },
  };
}

/** `flowpost send`: one message from the command line. */
export async function send(argv: readonly string[]): Promise<number> {
  const { connection, message, json, verbose, sending } = await readMessage(argv);
  await using sender = createSender(connection, sending);
  const receipt = await sender.send(message, verbose ? { transcript: sayTranscript } : {});
  if (json) printJson(receipt);
  else sayReceipt(receipt);
  return exitCodes.sent;
}
