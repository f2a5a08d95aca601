import type { ContentAttachment, ResolvedAttachment } from '../resolve-attachments.ts';
import { dispositionHeader, legacyParameter, tokenHeader } from './header.ts';
import { base64Segment, type Segment } from './segments.ts';
import { encodeText, isSevenBit } from './transfer-encoding.ts';

/** A MIME entity: its header lines about the content, and its body. */
export interface MimePart {
  readonly headers: string;
  readonly body: readonly Segment[];
}

function textType(contentType: string, parameters: readonly string[]): string {
  const tokens = [`${contentType}; charset=utf-8`, ...parameters].join('; ').split(/(?<=;) /);
  return tokenHeader('Content-Type', tokens);
}

/** Most texts are one of two. */
const usualTypes = new Map(['text/plain', 'text/html'].map((type) => [type, textType(type, [])]));

/** A text part such as `text/plain` or `text/html`, in UTF-8. */
export function textPart(contentType: string, text: string, parameters: readonly string[] = []): MimePart {
  const { encoding, content } = encodeText(text);
  const type = (parameters.length === 0 && usualTypes.get(contentType)) || textType(contentType, parameters);
  return { headers: `${type}Content-Transfer-Encoding: ${encoding}\r\n`, body: [content] };
}

/**
 * How an attachment is sent. A message may not be in base64 (RFC 2046 section 5.2.1), so one that needs it is a file; and so is one
 * that streams, of which nobody knows before it is read.
 */
function typeAndEncoding({ content, contentType }: ContentAttachment): {
  type: string;
  encoding: '7bit' | 'base64';
} {
  if (!/^message\//i.test(contentType)) return { type: contentType, encoding: 'base64' };
  if (Buffer.isBuffer(content) && isSevenBit(content)) return { type: contentType, encoding: '7bit' };
  return { type: 'application/octet-stream', encoding: 'base64' };
}

/**
 * An attachment: in base64, so that its bytes arrive exactly, or as its author wrote it.
 *
 * @param isShown whether a text of the message shows it (RFC 2183 section 2.1).
 */
export function attachmentPart(attachment: ResolvedAttachment, isShown = false): MimePart {
  if ('headers' in attachment) return attachment;
  const { content, contentId, filename } = attachment;
  const { type: given, encoding } = typeAndEncoding(attachment);
  // Parameters may come after a tab, which a folded header has no use for.
  const type = given.replaceAll('\t', ' ');
  const named = /;\s*name=/i.test(type) ? [type] : [`${type};`, ...legacyParameter('name', filename)];
  const headers = [
    tokenHeader('Content-Type', named),
    `Content-Transfer-Encoding: ${encoding}\r\n`,
    contentId === undefined ? '' : tokenHeader('Content-ID', [`<${contentId}>`]),
    dispositionHeader(isShown ? 'inline' : 'attachment', filename),
  ].join('');
  if (encoding === '7bit' && Buffer.isBuffer(content)) return { headers, body: [content] };
  return { headers, body: [base64Segment(content)] };
}

/** Several parts as one (RFC 2046 section 5.1). A multipart of one part is that part. */
export function multipart(
  subtype: 'mixed' | 'alternative' | 'related',
  parts: readonly MimePart[],
  boundary: string,
): MimePart {
  const [only] = parts;
  if (only && parts.length === 1) return only;
  const body: Segment[] = [];
  for (const part of parts) body.push(`--${boundary}\r\n${part.headers}\r\n`, ...part.body, '\r\n');
  body.push(`--${boundary}--\r\n`);
  // Related parts say which of them is the one to show (RFC 2387 section 3.1): here always the HTML.
  const root = subtype === 'related' ? ['type="text/html";'] : [];
  const headers = tokenHeader('Content-Type', [`multipart/${subtype};`, ...root, `boundary="${boundary}"`]);
  return { headers, body };
}
