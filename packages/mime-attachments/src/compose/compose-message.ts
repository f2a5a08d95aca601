import { randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';
import {
  addressKey,
  createMessageId,
  type EmailMessage,
  type EmailMessageInput,
  needsSmtpUtf8,
  parseMessage,
  toWireAddress,
} from '@flowpost/core';
import { type AttachmentPolicy, resolveAttachmentPolicy } from '../attachment-policy.ts';
import { assertNotGivenUp } from '../given-up.ts';
import { type ResolvedAttachment, releaseAll, resolveAttachments } from '../resolve-attachments.ts';
import { contentPart } from './content-part.ts';
import { type DkimSigner, hashBody } from './dkim.ts';
import { messageHeaders } from './message-headers.ts';
import { plainTextOf } from './plain-text.ts';
import {
  endsWithLineEnd,
  joinSegments,
  readSegments,
  readUnchanged,
  type Segment,
  sizeOf,
  streamBody,
  streamedContents,
} from './segments.ts';

/** Who the server is told about (RFC 5321 section 3.3), which is not what the headers say. */
export interface Envelope {
  readonly from: string;
  /** Every recipient once: To, Cc and Bcc. */
  readonly to: readonly string[];
  /** Whether an address needs the server to offer SMTPUTF8 (RFC 6531). */
  readonly smtpUtf8: boolean;
}

/** A message ready to be sent: its bytes (RFC 5322) and who gets them. */
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

/** How a message is composed: what may be attached, who signs, and what makes it unique. */
export interface ComposeOptions {
  /** What attachments may be read. */
  readonly attachments?: AttachmentPolicy;
  /** Makes the unique part of message ids, from which boundaries are made too. Default a random UUID. */
  readonly uniqueId?: () => string;
  /** Unix milliseconds, for the Date header and the time of signing. Default now. */
  readonly now?: () => number;
  /** Sign the message, each in the name of its domain (RFC 6376). */
  readonly dkim?: readonly DkimSigner[];
  /**
   * Write a Bcc header. Only for a service that finds the recipients of a message in its header and takes this one out,
   * such as Microsoft Graph: over SMTP it would show everybody who was to stay hidden.
   */
  readonly includeBcc?: boolean;
  /**
   * The body may be read a good while later. What comes from a URL is then fetched as a whole before, because a web server does
   * not wait. Default false.
   */
  readonly mayWait?: boolean;
  /** Stops fetching attachments. */
  readonly signal?: AbortSignal | undefined;
}

/** @param head the header as it is written: whatever is not ASCII in it are addresses. */
function envelopeOf({ from, sender, to, cc, bcc }: EmailMessage, head: string): Envelope {
  const recipients = new Map<string, string>();
  const everybody = cc.length + bcc.length > 0 ? [...to, ...cc, ...bcc] : to;
  for (const { address } of everybody) {
    const key = addressKey(address);
    if (!recipients.has(key)) recipients.set(key, toWireAddress(address));
  }
  return {
    from: toWireAddress((sender ?? from).address),
    to: [...recipients.values()],
    // Every address that is written counts, in the envelope or in a header (RFC 6531 section 3.1).
    smtpUtf8: /[^\x00-\x7f]/.test(head) || everybody.some(({ address }) => needsSmtpUtf8(address)),
  };
}

/**
 * Composes the exact bytes of a message (RFC 5322, RFC 2045 and following). When everything is in memory, that is
 * one synchronous pass into one Buffer; a large file makes the body a stream with flat memory, to be read or
 * destroyed. Line ends are CRLF throughout, lines have at most 998 characters, everything is 7 bit but for addresses
 * that need SMTPUTF8. HTML without a text gets one made from it.
 *
 * @throws MailError of category `input` for what the message itself gets wrong, every field in one error; of
 * category `attachment` for an attachment that cannot be had, naming it by position and name; `SEND_CANCELLED` or
 * `SEND_TIMED_OUT` when the signal is aborted while attachments are being read.
 */
export async function composeMessage(
  input: EmailMessageInput,
  options: ComposeOptions = {},
): Promise<ComposedMessage> {
  const parsed = parseMessage(input);
  const needsText = parsed.html !== undefined && parsed.text === undefined;
  const message = needsText ? { ...parsed, text: await plainTextOf(parsed.html ?? '') } : parsed;
  const found = message.attachments.length === 0 ? [] : readAttachments(message, options);
  const attachments = found instanceof Promise ? await found : found;

  try {
    return await compose(message, attachments, options);
  } catch (error) {
    releaseAll(attachments);
    throw error;
  }
}

function readAttachments(
  { attachments }: EmailMessage,
  { dkim = [], mayWait = false, signal, ...options }: ComposeOptions,
) {
  const policy = resolveAttachmentPolicy(options.attachments);
  return resolveAttachments(attachments, policy, { signal, whole: mayWait || dkim.length > 0 });
}

async function compose(
  message: EmailMessage,
  attachments: readonly ResolvedAttachment[],
  { uniqueId = randomUUID, dkim = [], includeBcc = false, ...options }: ComposeOptions,
): Promise<ComposedMessage> {
  const now = options.now?.() ?? Date.now();
  const date = message.date ?? new Date(now);
  // The same message signed again has the same bytes, unless its date lies ahead. There is no time before 1970 in a signature.
  const signedAt = Math.max(0, Math.min(now, date.getTime()));
  const messageId =
    message.messageId ?? createMessageId(toWireAddress((message.sender ?? message.from).address), uniqueId());
  const content = contentPart(message, attachments, messageId);
  const headers = messageHeaders(message, messageId, date, includeBcc);
  const envelope = envelopeOf(message, headers);
  const head = `${headers}MIME-Version: 1.0\r\n${content.headers}`;
  const segments = endsWithLineEnd(content.body.at(-1)) ? content.body : [...content.body, '\r\n'];
  const throwIfAborted = (): void => assertNotGivenUp(options.signal, 'the message was being signed');
  // The signature stands before the body it covers, so a body that streams is read twice.
  const bodyHash = dkim.length > 0 ? await hashBody(readSegments(segments), throwIfAborted) : undefined;
  const signatures = bodyHash ? dkim.map((signer) => signer.sign(head, bodyHash, signedAt)).join('') : '';
  const whole: Segment[] = [`${signatures}${head}\r\n`, ...segments];
  const streamed = streamedContents(segments);
  if (streamed.length === 0) {
    const body = joinSegments(whole);
    return { envelope, messageId, date, sizeBytes: body.length, body };
  }
  const sizeBytes = sizeOf(whole);
  const chunks = bodyHash ? readUnchanged(whole, bodyHash) : readSegments(whole);
  return { envelope, messageId, date, sizeBytes, body: streamBody(chunks, streamed) };
}
