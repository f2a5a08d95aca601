import type { MailErrorJson, SendReceipt } from '@flowpost/core';
import type { VerifyStep } from '@flowpost/transport';
import { canDraw, clearProgress } from './progress.ts';

/** Colour is for people at a terminal. */
const colours = canDraw && process.env.NO_COLOR === undefined;
const codes = { red: 31, green: 32, yellow: 33, magenta: 35, cyan: 36, grey: 90 } as const;
export const paint = (colour: keyof typeof codes, text: string): string =>
  colours ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;

let quiet = false;
/** From now on people hear of errors only. */
export function beQuiet(): void {
  quiet = true;
}

/** What a terminal would obey, the colours above excepted: a server's words are only to be read. */
const commands = new RegExp(
  `${colours ? `(?!\\x1b\\[(?:0|${Object.values(codes).join('|')})m)` : ''}[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]`,
  'g',
);

/** For people. */
export function say(text: string, what: 'news' | 'error' = 'news'): void {
  if (quiet && what === 'news') return;
  clearProgress();
  process.stderr.write(`${text.replace(commands, '\ufffd')}\n`);
}

/** For programs: one JSON document. */
export function printJson(document: unknown, indent = 2): void {
  process.stdout.write(`${JSON.stringify(document, null, indent)}\n`);
}

export function sayReceipt(receipt: SendReceipt): void {
  const { status, messageId, accepted, rejected, response, notifications } = receipt;
  const label =
    status === 'sent'
      ? paint('green', 'Sent')
      : paint('yellow', status === 'partial' ? 'Sent in part' : status);
  // Who asked for quiet wants to hear of who did not get it.
  const what = rejected.length > 0 ? 'error' : 'news';
  say(`${label} ${messageId} to ${accepted.join(', ')}`, what);
  for (const { address, reply } of rejected) say(`  refused: ${address} (${reply})`, 'error');
  say(`  server: ${response}`);
  if (notifications === 'not-offered') say('  no delivery notifications: the server does not offer them');
}

const stepColours = { ok: 'green', failed: 'red', skipped: 'grey' } as const;

/** One line a step, and what to do below it. */
export function sayStep({ step, status, ms, message, hint, error }: VerifyStep): void {
  const time = status === 'skipped' ? '' : `${ms} ms`;
  const kind = status === 'failed' ? 'error' : 'news';
  say(
    `${paint(stepColours[status], status.padEnd(7))}  ${step.padEnd(6)}  ${time.padStart(8)}  ${message}`,
    kind,
  );
  for (const line of hint === undefined ? [] : [forReading(hint), ...(error ? detailLines(error) : [])])
    say(`${' '.repeat(27)}${line}`, kind);
}

/** The dialogue with the server, for people who want to see it. */
export function sayTranscript({
  from,
  text,
}: {
  readonly from: 'client' | 'server';
  readonly text: string;
}): void {
  say(paint(from === 'client' ? 'cyan' : 'magenta', `${from === 'client' ? '>' : '<'} ${text}`));
}

interface ShownDetails {
  readonly messageId?: unknown;
  readonly known?: unknown;
  readonly rejected?: unknown;
  readonly unconfirmed?: unknown;
  readonly accepted?: unknown;
  readonly keyId?: unknown;
  readonly [name: string]: unknown;
}

/** Details that hints name, and what they are called here. */
const named: Readonly<Record<string, string>> = {
  certificateNames: 'the certificate is for',
  offered: 'offered',
  usable: 'usable',
  permission: 'permission',
  missing: 'missing',
  limitBytes: 'the limit, in bytes',
  path: 'path',
  field: 'field',
  reason: 'reason',
};

/** What a hint refers to, as far as the message does not say it. */
function* detailLines({
  details,
  inDoubt,
  message,
  hint,
}: MailErrorJson): Generator<string, void, undefined> {
  const { messageId, known, rejected, unconfirmed, accepted, keyId, retryAfterMs, ...others } = (details ??
    {}) as ShownDetails;
  if (inDoubt && typeof messageId === 'string') yield `Message-ID: ${messageId}`;
  if (Array.isArray(known) && known.length > 0) yield `known: ${known.join(', ')}`;
  if (typeof keyId === 'string') yield `key: ${keyId}, to be among those of FLOWPOST_KEYS`;
  if (typeof retryAfterMs === 'number') yield `not before: ${Math.ceil(retryAfterMs / 1_000)} s from now`;
  for (const [name, label] of Object.entries(named)) {
    const value = [others[name] ?? []].flat().join(', ');
    if (value !== '' && hint.includes(`details.${name}`) && !message.includes(value))
      yield `${label}: ${value}`;
  }
  for (const { address, reply } of Array.isArray(rejected) ? rejected : [])
    if (!message.includes(address)) yield `refused: ${address} (${reply})`;
  // Where it is about all it need not say so.
  if (inDoubt && Array.isArray(unconfirmed) && (accepted || rejected))
    yield `in doubt: ${unconfirmed.join(', ')}`;
}

/** A hint for people, who see what it names below it. */
const forReading = (hint: string): string => hint.replace(/\bdetails\.(?=\w)/g, '');

export function sayError(error: MailErrorJson): void {
  const { code, phase, message, hint, inDoubt } = error;
  const label = paint('red', inDoubt ? 'In doubt' : 'Not sent');
  const lines = [
    `${label}: ${message}`,
    forReading(hint),
    ...detailLines(error),
    `(${code}, phase ${phase})`,
  ];
  say(lines.join('\n  '), 'error');
}
