import type { EmailMessage, Priority } from '@flowpost/core';
import { MailError, parseAddresses, toWireAddress } from '@flowpost/core';
import { addressHeader } from './address-header.ts';
import { needsEncoding, textHeader, tokenHeader } from './header.ts';

const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const two = (value: number): string => (value < 10 ? `0${value}` : `${value}`);

/** A date as RFC 5322 section 3.3 writes it, in UTC. */
function formatDate(date: Date): string {
  if (Number.isNaN(date.getTime())) throw new MailError('INPUT_INVALID', 'date: it is no date.');
  const time = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map(two).join(':');
  const day = `${days[date.getUTCDay()]}, ${date.getUTCDate()} ${months[date.getUTCMonth()]}`;
  return `${day} ${date.getUTCFullYear().toString().padStart(4, '0')} ${time} +0000`;
}

/** The headers mail programs read a priority from; `normal` needs none. Spam filters count X-MSMail-Priority against whoever is not Outlook. */
const priorityHeaders: Readonly<Record<Exclude<Priority, 'normal'>, Readonly<Record<string, string>>>> = {
  high: { 'X-Priority': '1 (Highest)', Importance: 'High', Priority: 'urgent' },
  low: { 'X-Priority': '5 (Lowest)', Importance: 'Low', Priority: 'non-urgent' },
};

/** Those the author does not write himself. */
function priorityLines({ priority, headers = {} }: EmailMessage): string {
  if (priority === 'normal') return '';
  const lines = Object.entries(priorityHeaders[priority]);
  const own = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  return lines.map(([name, value]) => (own.has(name.toLowerCase()) ? '' : `${name}: ${value}\r\n`)).join('');
}

/** The messages of a thread that this one belongs to, the one it answers last (RFC 5322 section 3.6.4). */
function threadOf({ inReplyTo, references = [] }: EmailMessage): readonly string[] {
  return inReplyTo === undefined || references.includes(inReplyTo) ? references : [...references, inReplyTo];
}

/** An address as RFC 6068 writes it in a mailto URL. */
function mailtoAddress(address: string): string {
  const wire = toWireAddress(address);
  const at = wire.lastIndexOf('@');
  return `${encodeURIComponent(wire.slice(0, at))}${wire.slice(at)}`;
}

/** RFC 2369, and RFC 8058 when there is a URL that takes the one-click POST. */
function unsubscribeHeaders({ url, mailto }: NonNullable<EmailMessage['unsubscribe']>): string {
  const ways = [
    ...(url === undefined ? [] : [`<${url}>`]),
    ...(mailto === undefined ? [] : [`<mailto:${mailtoAddress(mailto.address)}>`]),
  ];
  const list = tokenHeader('List-Unsubscribe', ways.join(', ').split(/(?<=,) /));
  return url === undefined ? list : `${list}List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n`;
}

/** Fields that hold addresses, which may not be encoded but for the names before them (RFC 2047 section 5). */
const addressFields: ReadonlySet<string> = new Set(
  (
    'disposition-notification-to return-receipt-to errors-to mail-followup-to mail-reply-to ' +
    'resent-from resent-sender resent-to resent-cc resent-bcc resent-reply-to x-original-from'
  ).split(' '),
);

/** A header of the author's own. */
function customHeader(name: string, value: string): string {
  if (!needsEncoding(value)) return textHeader(name, value);
  if (addressFields.has(name.toLowerCase())) {
    try {
      return addressHeader(name, parseAddresses(value));
    } catch {
      // No addresses after all.
    }
  }
  // A phrase before an id, as in List-Id (RFC 2919) and in what is made like it. Only what is white space in a header may go.
  const [, phrase, gap, id] =
    (value.length <= 500 && /^(.*[^ \t])([ \t]*)(<[!-;=?-~]+>)[ \t]*$/s.exec(value)) || [];
  if (phrase === undefined || (gap === '' && !/-id$/i.test(name))) return textHeader(name, value);
  return textHeader(name, phrase).replace(/\r\n$/, `\r\n ${id}\r\n`);
}

/** All header lines but those about the content. Bcc is not among them, unless it is asked for. */
export function messageHeaders(
  message: EmailMessage,
  messageId: string,
  date: Date,
  includeBcc = false,
): string {
  const { from, sender, replyTo, to, cc, bcc, subject, headers, inReplyTo, unsubscribe } = message;
  let lines = addressHeader('From', [from]);
  // RFC 5322 section 3.6.2: not when it is who the message is from.
  const isOther = sender && (sender.address !== from.address || (sender.name ?? from.name) !== from.name);
  if (isOther) lines += addressHeader('Sender', [sender]);
  if (replyTo.length > 0) lines += addressHeader('Reply-To', replyTo);
  if (to.length > 0) lines += addressHeader('To', to);
  else if (cc.length === 0) lines += 'To: undisclosed-recipients:;\r\n';
  if (cc.length > 0) lines += addressHeader('Cc', cc);
  if (includeBcc && bcc.length > 0) lines += addressHeader('Bcc', bcc);
  lines += textHeader('Subject', subject);
  lines += `Date: ${formatDate(date)}\r\n`;
  lines += tokenHeader('Message-ID', [messageId]);
  if (inReplyTo !== undefined) lines += tokenHeader('In-Reply-To', [inReplyTo]);
  const thread = threadOf(message);
  if (thread.length > 0) lines += tokenHeader('References', thread);
  lines += priorityLines(message);
  if (message.autoSubmitted !== undefined) lines += `Auto-Submitted: ${message.autoSubmitted}\r\n`;
  if (unsubscribe) lines += unsubscribeHeaders(unsubscribe);
  for (const [name, value] of Object.entries(headers ?? {})) {
    for (const one of [value].flat()) lines += customHeader(name, one);
  }
  return lines;
}
