import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  type EmailMessage,
  type EmailMessageInput,
  needsSmtpUtf8,
  parseWith,
  sendableMessageSchema,
  toWireAddress,
} from '@flowpost/core';
import { type AttachmentPolicy, resolveAttachmentPolicy } from '../attachment-policy.ts';
import { type ResolvedAttachment, resolveAttachments } from '../resolve-attachments.ts';
import { messageHeaders } from './message-headers.ts';
import { attachmentPart, type MimePart, multipart, type Segment, textPart } from './mime-part.ts';
import { encodeBase64Stream } from './transfer-encoding.ts';

/** Who the server is told about (RFC 5321 section 3.3), which is not what the headers say. */
export interface Envelope {
  readonly from: string;
  /** Every recipient once: To, Cc and Bcc. */
  readonly to: readonly string[];
  /** Whether an address needs the server to offer SMTPUTF8 (RFC 6531). */
  readonly smtpUtf8: boolean;
}

export interface ComposedMessage {
  readonly envelope: Envelope;
  /** In angle brackets, as in the header. */
  readonly messageId: string;
  readonly date: Date;
  /** Exact size of the body in bytes, before dot-stuffing. */
  readonly sizeBytes: number;
  /** The message: a Buffer when everything was in memory, otherwise a stream to be read once. */
  readonly body: Buffer | Readable;
}

export interface ComposeOptions {
  /** What attachments may be read. */
  readonly attachments?: AttachmentPolicy;
  /** Makes the unique part of message ids and boundaries. Default a random UUID. */
  readonly uniqueId?: () => string;
  /** Unix milliseconds, for the Date header. Default now. */
  readonly now?: () => number;
}

/** The tree of RFC 2046: alternative in related in mixed, each only where there is something to hold together. */
function contentPart(
  message: EmailMessage,
  attachments: readonly ResolvedAttachment[],
  unique: string,
): MimePart {
  let count = 0;
  const boundary = (): string => `=_${unique}_${++count}`;
  const { text, html, calendar } = message;
  const alternatives: MimePart[] = [];
  if (text !== undefined || (html === undefined && !calendar))
    alternatives.push(textPart('text/plain', text ?? ''));

  const inline = html === undefined ? [] : attachments.filter(({ contentId }) => contentId !== undefined);
  if (html !== undefined) {
    const parts = [textPart('text/html', html), ...inline.map(attachmentPart)];
    alternatives.push(multipart('related', parts, boundary()));
  }
  if (calendar) alternatives.push(textPart('text/calendar', calendar.content, [`method=${calendar.method}`]));

  const body = multipart('alternative', alternatives, boundary());
  const attached = attachments.filter((attachment) => !inline.includes(attachment)).map(attachmentPart);
  return multipart('mixed', [body, ...attached], boundary());
}

/** Two spellings of a domain are one recipient; two of a local part may be two. */
function withLowerCaseDomain(address: string): string {
  const at = address.lastIndexOf('@');
  return address.slice(0, at) + address.slice(at).toLowerCase();
}

function envelopeOf({ from, sender, replyTo, to, cc, bcc }: EmailMessage): Envelope {
  const recipients = new Map<string, string>();
  for (const { address } of [...to, ...cc, ...bcc]) {
    const wire = toWireAddress(address);
    const key = withLowerCaseDomain(wire);
    if (!recipients.has(key)) recipients.set(key, wire);
  }
  // Every address that is written counts, in the envelope or in a header (RFC 6531 section 3.1).
  const written = [from, ...(sender ? [sender] : []), ...replyTo, ...to, ...cc, ...bcc];
  return {
    from: toWireAddress((sender ?? from).address),
    to: [...recipients.values()],
    smtpUtf8: written.some(({ address }) => needsSmtpUtf8(address)),
  };
}

const segmentSize = (segment: Segment): number =>
  typeof segment === 'string'
    ? Buffer.byteLength(segment)
    : Buffer.isBuffer(segment)
      ? segment.length
      : segment.size;

function endsWithLineEnd(segment: Segment | undefined): boolean {
  if (Buffer.isBuffer(segment)) return segment.at(-1) === 0x0a;
  return typeof segment === 'string' && segment.endsWith('\n');
}

/** One allocation and one pass. */
function joinInMemory(segments: readonly (string | Buffer)[], size: number): Buffer {
  const body = Buffer.allocUnsafe(size);
  let at = 0;
  for (const segment of segments)
    at += typeof segment === 'string' ? body.write(segment, at) : segment.copy(body, at);
  return body;
}

async function* streamSegments(segments: readonly Segment[]): AsyncGenerator<Buffer> {
  for (const segment of segments) {
    if (typeof segment === 'string') yield Buffer.from(segment);
    else if (Buffer.isBuffer(segment)) yield segment;
    else yield* encodeBase64Stream(segment.stream.open());
  }
}

/**
 * Composes the exact bytes of a message (RFC 5322, RFC 2045 and following). When everything is in memory, that is
 * one synchronous pass into one Buffer; a large file makes the body a stream with flat memory. Line ends are CRLF
 * throughout, lines have at most 998 characters, everything is 7 bit but for addresses that need SMTPUTF8.
 *
 * @throws MailError of category `input` for what the message itself gets wrong, every field in one error; of
 * category `attachment` for an attachment that cannot be had, naming it by position and name.
 */
export async function composeMessage(
  input: EmailMessageInput,
  options: ComposeOptions = {},
): Promise<ComposedMessage> {
  const message = parseWith(sendableMessageSchema, input);
  const uniqueId = options.uniqueId ?? randomUUID;
  const found = resolveAttachments(message.attachments, resolveAttachmentPolicy(options.attachments));
  const attachments = found instanceof Promise ? await found : found;

  const envelope = envelopeOf(message);
  const date = message.date ?? new Date(options.now?.() ?? Date.now());
  const messageId =
    message.messageId ?? `<${uniqueId()}${envelope.from.slice(envelope.from.lastIndexOf('@'))}>`;
  const content = contentPart(message, attachments, uniqueId());
  const head = `${messageHeaders(message, messageId, date)}MIME-Version: 1.0\r\n${content.headers}\r\n`;
  const segments: Segment[] = [head, ...content.body];
  if (!endsWithLineEnd(segments.at(-1))) segments.push('\r\n');
  const sizeBytes = segments.reduce((size, segment) => size + segmentSize(segment), 0);
  const inMemory = segments.every((segment) => typeof segment === 'string' || Buffer.isBuffer(segment));
  const body = inMemory
    ? joinInMemory(segments as (string | Buffer)[], sizeBytes)
    : Readable.from(streamSegments(segments), { objectMode: false });
  return { envelope, messageId, date, sizeBytes, body };
}
