import { type Attachment, anySignal, cancellationOf, headerTextProblem } from '@flowpost/core';
import { atMost } from './at-most.ts';
import type { ResolvedAttachmentPolicy } from './attachment-policy.ts';
import {
  type AttachmentContext,
  type AttachmentSource,
  attachmentError,
  checkSize,
  type StreamedContent,
  TotalSize,
} from './attachment-source.ts';
import { extensionOf, octetStream, typeByContent, typeByName } from './content-type.ts';
import { readBase64 } from './kinds/base64.ts';
import { readBytes } from './kinds/bytes.ts';
import { readCustom } from './kinds/custom.ts';
import { readFile } from './kinds/file.ts';
import { type MimeNode, readMime } from './kinds/mime.ts';
import { readText } from './kinds/text.ts';
import { readUrl } from './kinds/url.ts';

/** An attachment whose content, name and type are known. */
export interface ContentAttachment {
  readonly content: Buffer | StreamedContent;
  readonly filename: string;
  readonly contentType: string;
  /** Present for inline parts. */
  readonly contentId?: string;
}

/** What an attachment has become: content to be encoded, or a MIME entity its author wrote. */
export type ResolvedAttachment = ContentAttachment | MimeNode;

type Elsewhere = Extract<Attachment, { kind: 'file' | 'url' }>;

const isElsewhere = (attachment: Attachment): attachment is Elsewhere =>
  attachment.kind === 'file' || attachment.kind === 'url';

const readElsewhere = (attachment: Elsewhere, context: AttachmentContext) =>
  attachment.kind === 'file' ? readFile(attachment, context) : readUrl(attachment, context);

function readHere(
  attachment: Exclude<Attachment, Elsewhere | { kind: 'mime' }>,
  context: AttachmentContext,
): AttachmentSource {
  switch (attachment.kind) {
    case 'text':
      return readText(attachment);
    case 'base64':
      return readBase64(attachment, context);
    case 'bytes':
      return readBytes(attachment);
    case 'custom':
      return readCustom(attachment);
  }
}

/** What is written as text, whatever it is called. */
const textOf = (attachment: Attachment): string | undefined =>
  'content' in attachment && typeof attachment.content === 'string' && attachment.kind !== 'base64'
    ? attachment.content
    : undefined;

/** Text is written in UTF-8, so a textual type without a charset gets this one. */
function withCharset(contentType: string, attachment: Attachment): string {
  const wantsCharset =
    textOf(attachment) !== undefined && /^text\//i.test(contentType) && !/;\s*charset=/i.test(contentType);
  return wantsCharset ? `${contentType}; charset=utf-8` : contentType;
}

/** Text as its type says it is written (RFC 2046 section 4.1.2): in UTF-8 where it may be, in others where it can. */
function inCharset(
  contentType: string,
  attachment: Attachment,
  content: Buffer | StreamedContent,
  context: AttachmentContext,
): Buffer | StreamedContent {
  const text = textOf(attachment);
  const [, charset = 'utf-8'] = /;\s*charset="?([\w.:+-]+)/i.exec(contentType) ?? [];
  if (text === undefined || /^utf-?8$/i.test(charset)) return content;
  if (/^utf-16le$/i.test(charset)) return Buffer.from(text, 'utf16le');
  // All others write ASCII as ASCII, but for those that take several bytes for it.
  const isWide = /^(?:utf-?(?:16|32)|ucs-|iso-10646)/i.test(charset);
  if (!isWide && /^[\x00-\x7f]*$/.test(text)) return content;
  if (/^(?:iso-8859-1|latin1|windows-1252)$/i.test(charset) && /^[\x00-\x7f\xa0-\xff]*$/.test(text))
    return Buffer.from(text, 'latin1');
  const why = `its text has characters that cannot be written in ${charset}; leave charset out, and it is UTF-8.`;
  throw attachmentError('ATTACHMENT_INVALID', why, context);
}

function assertFits(content: Buffer | StreamedContent, context: AttachmentContext): void {
  checkSize(Buffer.isBuffer(content) ? content.length : content.size, context);
}

function finish(
  attachment: Attachment,
  source: AttachmentSource,
  context: AttachmentContext,
): ContentAttachment | Promise<ContentAttachment> {
  const { content } = source;
  assertFits(content, context);
  const given = attachment.filename ?? source.filename;
  const problem = given !== undefined && headerTextProblem(given);
  if (problem) throw attachmentError('HEADER_INVALID', `its file name cannot be used: ${problem}.`, context);
  const withType = (type: string): ContentAttachment => ({
    content: inCharset(type, attachment, content, context),
    // Whoever opens it goes by the end of its name.
    filename: given ?? `attachment.${extensionOf(type)}`,
    contentType: withCharset(type, attachment),
    ...(attachment.contentId !== undefined && { contentId: attachment.contentId }),
  });
  const known =
    attachment.contentType ?? source.contentType ?? (given && typeByName(given)) ?? source.fallbackType;
  return known === undefined
    ? typeByContent(source).then((type) => withType(type ?? octetStream))
    : withType(known);
}

/** Reads one attachment. What it holds is given up again should it turn out to be of no use. */
async function finishLater(
  attachment: Attachment,
  reading: AttachmentSource | Promise<AttachmentSource>,
  context: AttachmentContext,
): Promise<ContentAttachment> {
  const source = await reading;
  try {
    return await finish(attachment, source, context);
  } catch (error) {
    release(source);
    throw error;
  }
}

/** @throws MailError `SEND_CANCELLED` or `SEND_TIMED_OUT` when nobody wants the attachment any more. */
function assertWanted(context: AttachmentContext): void {
  const { signal } = context;
  if (!signal?.aborted) return;
  const { code, message, ...cause } = cancellationOf(signal);
  throw attachmentError(code, `${message}.`, context, { ...cause, retryable: code === 'SEND_TIMED_OUT' });
}

/** How many files and downloads are opened at once for a message. */
const openedAtOnce = 8;

function resolveOne(
  attachment: Attachment,
  context: AttachmentContext,
  inTurn: ReturnType<typeof atMost>,
): ResolvedAttachment | Promise<ResolvedAttachment> {
  if (attachment.kind === 'mime') {
    const node = readMime(attachment, context);
    for (const segment of node.body) {
      if (typeof segment === 'string' || Buffer.isBuffer(segment)) checkSize(segment.length, context);
      else assertFits(segment.content, context);
    }
    return node;
  }
  if (isElsewhere(attachment)) {
    return inTurn(() => {
      assertWanted(context);
      return finishLater(attachment, readElsewhere(attachment, context), context);
    });
  }
  return finish(attachment, readHere(attachment, context), context);
}

function release({ content }: { readonly content: Buffer | StreamedContent }): void {
  if (!Buffer.isBuffer(content)) content.release?.();
}

/** Gives up what attachments hold. */
export function releaseAll(attachments: readonly ResolvedAttachment[]): void {
  for (const attachment of attachments) if ('content' in attachment) release(attachment);
}

/** Waits for all; when one fails, the others are stopped, and what they hold is released. */
async function settle(
  pending: readonly (ResolvedAttachment | Promise<ResolvedAttachment>)[],
  stop: AbortController,
): Promise<ResolvedAttachment[]> {
  try {
    return await Promise.all(pending);
  } catch (error) {
    stop.abort();
    for (const result of await Promise.allSettled(pending)) {
      if (result.status === 'fulfilled' && 'content' in result.value) release(result.value);
    }
    throw error;
  }
}

/**
 * Finds the content of every attachment. Stays synchronous as long as no attachment needs the file system or the
 * network, because composing a message that is all in memory should cost no turn of the event loop.
 *
 * @param options.firstPosition which one the first of them is in its message, for errors. Default 1.
 * @param options.whole whether content that streams has to be here as a whole, because it will be opened more than once, or later.
 * @throws MailError of category `attachment`, naming the attachment by position and name; `SEND_CANCELLED` or
 * `SEND_TIMED_OUT` when the signal is aborted.
 */
export function resolveAttachments(
  attachments: readonly Attachment[],
  policy: ResolvedAttachmentPolicy,
  {
    signal,
    whole = false,
    firstPosition = 1,
  }: {
    readonly signal?: AbortSignal | undefined;
    readonly whole?: boolean;
    readonly firstPosition?: number | undefined;
  } = {},
): ResolvedAttachment[] | Promise<ResolvedAttachment[]> {
  if (attachments.length === 0) return [];
  const stop = new AbortController();
  const stopped = anySignal(signal, stop.signal);
  const inTurn = atMost(openedAtOnce);
  const total = new TotalSize();
  const pending = attachments.map((attachment, index) => {
    const source =
      'path' in attachment
        ? shortPath(attachment.path)
        : 'url' in attachment
          ? shortUrl(attachment.url)
          : undefined;
    const context = {
      ...{ policy, total },
      position: firstPosition + index,
      name: attachment.filename ?? source,
      signal: stopped,
      whole,
    };
    try {
      assertWanted(context);
      return resolveOne(attachment, context, inTurn);
    } catch (error) {
      // Not thrown here, where it would leave the files already being read to themselves.
      return Promise.reject(error);
    }
  });
  return pending.every((one): one is ResolvedAttachment => !(one instanceof Promise))
    ? pending
    : settle(pending, stop);
}

/** A path for an error. What somebody took for one may be a URL, or several. */
function shortPath(text: string): string {
  if (/^\s*["'<(]?data:/i.test(text)) return 'data URL';
  return text.replace(/(?:[a-z][a-z0-9+.-]*:)?\/\/\S*[@?]\S*/gi, shortUrl).slice(0, 200);
}

/** A URL as it may be shown in an error: neither the credentials in it, nor its data, nor what stands behind the `?`. */
function shortUrl(text: string): string {
  if (/^\s*data:/i.test(text)) return 'data URL';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url && /^https?:$/.test(url.protocol) ? `${url.origin}${url.pathname}`.slice(0, 200) : 'URL';
}
