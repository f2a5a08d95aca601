import type { MailErrorJson, SendReceipt } from '@flowpost/core';

/** Colour is for people at a terminal. */
const colours = process.stderr.isTTY && process.env.NO_COLOR === undefined;
const paint = (code: number, text: string): string => (colours ? `\x1b[${code}m${text}\x1b[0m` : text);

/** For people. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** For programs: one JSON document. */
export function printJson(document: unknown, indent = 2): void {
  process.stdout.write(`${JSON.stringify(document, null, indent)}\n`);
}

export function sayReceipt({ status, messageId, accepted, rejected, response }: SendReceipt): void {
  const label =
    status === 'sent' ? paint(32, 'Sent') : paint(33, status === 'partial' ? 'Sent in part' : status);
  say(`${label} ${messageId} to ${accepted.join(', ')}`);
  for (const { address, reply } of rejected) say(`  refused: ${address} (${reply})`);
  say(`  server: ${response}`);
}

export function sayError({ code, phase, message, hint, inDoubt }: MailErrorJson): void {
  say(`${paint(31, inDoubt ? 'In doubt' : 'Not sent')}: ${message}`);
  say(`  ${hint}`);
  say(`  (${code}, phase ${phase})`);
}
