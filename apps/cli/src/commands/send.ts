import { stat } from 'node:fs/promises';
import { parse } from 'node:path';
import { type AttachmentInput, parseAsWritten, parseWith } from '@flowpost/core';
import {
  createFlowScope,
  deliver,
  parseFlowData,
  sendEmailNode,
  withMessageId,
} from '@flowpost/node-adapter';
import { type Command, UsageError, type Values } from '../command-line.ts';
import { readConnection } from '../configuration.ts';
import { allowedHosts, currentFolder } from '../current-folder.ts';
import { exitCodes } from '../exit-codes.ts';
import { untilInterrupted } from '../interrupt.ts';
import { printJson, sayReceipt, sayTranscript } from '../output.ts';
import { canDraw, Progress } from '../progress.ts';
import { environmentOptions, readValue } from '../read-input.ts';
import { size } from '../size.ts';
import type { previewSpec, sendSpec } from '../specs.ts';

function readAttachment(source: string): AttachmentInput {
  return /^(?:https?|data):/i.test(source) ? { kind: 'url', url: source } : { kind: 'file', path: source };
}

function readInline(argument: string): AttachmentInput {
  const equals = argument.indexOf('=');
  if (equals < 1) throw new UsageError(`--inline takes CID=PATH, not ${JSON.stringify(argument)}.`);
  return { ...readAttachment(argument.slice(equals + 1)), contentId: argument.slice(0, equals) };
}

/** Headers that have an option, which knows what may stand in them. */
const ownOptions: ReadonlySet<string> = new Set(['from', 'to', 'cc', 'bcc', 'subject', 'reply-to']);

function readHeaders(lines: readonly string[]): Record<string, string[]> {
  const headers = new Map<string, string[]>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon < 1) throw new UsageError(`--header takes 'Name: value', not ${JSON.stringify(line)}.`);
    const name = line.slice(0, colon);
    const own = name.trim().toLowerCase();
    if (ownOptions.has(own)) throw new UsageError(`Use --${own} instead of --header '${name}: ...'.`);
    headers.set(name, [...(headers.get(name) ?? []), line.slice(colon + 1).trim()]);
  }
  return Object.fromEntries(headers);
}

function readJsonOrText(text: string): unknown {
  try {
    return parseAsWritten(text);
  } catch {
    return text;
  }
}

/** `retry.attempts=5` in an object of settings. */
function put(settings: Record<string, unknown>, argument: string): void {
  const [, path = '', value = ''] = /^([A-Za-z][\w.-]*)=(.*)$/s.exec(argument) ?? [];
  if (path === '')
    throw new UsageError(`--set takes SETTING=VALUE, not ${JSON.stringify(argument.split(/[=:\s]/, 1)[0])}.`);
  const names = path.split('.');
  const last = names.pop() ?? '';
  let at = settings;
  for (const name of names) {
    const inner = Object.hasOwn(at, name) ? at[name] : undefined;
    at[name] = typeof inner === 'object' && inner !== null ? inner : {};
    at = at[name] as Record<string, unknown>;
  }
  Object.defineProperty(at, last, {
    value: readJsonOrText(value),
    enumerable: true,
    configurable: true,
    writable: true,
  });
}

/**
 * The settings of the send-email node that the options of `flowpost send` and `flowpost preview` say.
 *
 * @param options as for `readConnection`.
 */
export async function readSettings(
  values: Values<typeof sendSpec> | Values<typeof previewSpec>,
  options: Parameters<typeof readConnection>[1] = {},
) {
  const given: Record<string, unknown> = {
    connection: await readConnection(values, options),
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
    // Whoever waits for the answer sees for himself whether to try again.
    retry: { attempts: 1 },
  };
  for (const one of values.set ?? []) put(given, one);
  if (given.async === true) throw new UsageError('A command waits for the outcome, so async makes no sense.');
  const asked = sendEmailNode.toSendRequest(parseWith(sendEmailNode.settings, given), {
    settings: given,
    variables: new Map(),
  });
  const request = withMessageId(asked, sendEmailNode.type);
  const attachments = {
    // Whoever types a path means that file, wherever it is.
    ...{ fileRoots: [parse(currentFolder()).root], baseFolder: currentFolder() },
    urls: { allowedHosts: await allowedHosts(values['allow-host']) },
  };
  return { request, sending: { ...environmentOptions(), attachments } };
}

/** How large the message will be, as far as can be known beforehand, in bytes: base64 in lines of 76. */
async function expectedBytes(attachments: readonly { readonly kind: string }[]): Promise<number | undefined> {
  let bytes = 0;
  for (const one of attachments) {
    if (one.kind === 'url') return undefined;
    if ('path' in one) bytes += (await stat(String(one.path)).catch(() => ({ size: 0 }))).size;
  }
  return (bytes * 78) / 57;
}

/** `flowpost send`: one message from the command line. */
export const send: Command<typeof sendSpec> = async (values) => {
  const { request, sending } = await readSettings(values);
  using interrupted = untilInterrupted();
  await using scope = createFlowScope(sending);
  const expected = canDraw ? await expectedBytes(request.message.attachments) : undefined;
  let sent = 0;
  using _progress = new Progress(
    () => ({
      fraction: expected && Math.min(sent / expected, 0.99),
      text: sent === 0 ? 'connecting' : `${size(sent)} sent`,
    }),
    !values.quiet && !values.verbose,
  );
  const receipt = await deliver(request, {
    ...{ nodeId: sendEmailNode.type, flow: parseFlowData({}), scope, signal: interrupted },
    transcript(line) {
      sent += line.messageBytes ?? 0;
      if (values.verbose) sayTranscript(line);
    },
  });
  if (values.json) printJson(receipt);
  else sayReceipt(receipt);
  return receipt.status === 'partial' ? exitCodes.partial : exitCodes.sent;
};
