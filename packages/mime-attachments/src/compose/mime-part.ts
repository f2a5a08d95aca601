import type { StreamedContent } from '../attachment-source.ts';
import type { ResolvedAttachment } from '../resolve-attachments.ts';
import { foldHeader, legacyParameter, parameter, tokenHeader } from './header.ts';
import { base64Size, encodeBase64, encodeText } from './transfer-encoding.ts';

/** Content that streams, to be written in base64. */
interface StreamedPart {
  readonly stream: StreamedContent;
  /** Its size once encoded. */
  readonly size: number;
}

/** A piece of the message, in order. Strings are ASCII, but for addresses that need SMTPUTF8. */
export type Segment = string | Buffer | StreamedPart;

/** A MIME entity: its header lines about the content, and its body. */
export interface MimePart {
  readonly headers: string;
  readonly body: readonly Segment[];
}

/** A text part such as `text/plain` or `text/html`, in UTF-8. */
export function textPart(contentType: string, text: string, parameters: readonly string[] = []): MimePart {
  const { encoding, content } = encodeText(text);
  const type = tokenHeader(
    'Content-Type',
    [`${contentType}; charset=utf-8`, ...parameters].join('; ').split(/(?<=;) /),
  );
  return { headers: `${type}Content-Transfer-Encoding: ${encoding}\r\n`, body: [content] };
}

function dispositionHeader(disposition: 'inline' | 'attachment', filename: string): string {
  const parameters = parameter('filename', filename);
  const pieces = parameters.map((text, index) => ` ${text}${index < parameters.length - 1 ? ';' : ''}`);
  return foldHeader('Content-Disposition', [`${disposition};`, ...pieces]);
}

/** Whether bytes can go as they are: ASCII without NUL, lines of at most 998 characters that end in CRLF. */
function isSevenBit(bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  return !/[^\t\r\n\x20-\x7e]|\r(?!\n)|(?<!\r)\n/.test(text) && !/[^\r\n]{999}/.test(text);
}

/** How an attachment is sent. A message may not be in base64 (RFC 2046 section 5.2.1), so one that needs it is a file. */
function typeAndEncoding({ content, contentType }: ResolvedAttachment): {
  type: string;
  encoding: '7bit' | 'base64';
} {
  if (!/^message\//i.test(contentType)) return { type: contentType, encoding: 'base64' };
  if (Buffer.isBuffer(content) && isSevenBit(content)) return { type: contentType, encoding: '7bit' };
  return { type: 'application/octet-stream', encoding: 'base64' };
}

/** An attachment, in base64 so that its bytes arrive exactly. */
export function attachmentPart(attachment: ResolvedAttachment): MimePart {
  const { content, contentId, filename } = attachment;
  const { type, encoding } = typeAndEncoding(attachment);
  const named = /;\s*name=/i.test(type) ? [type] : [`${type};`, ...legacyParameter('name', filename)];
  const headers = [
    tokenHeader('Content-Type', named),
    `Content-Transfer-Encoding: ${encoding}\r\n`,
    contentId === undefined ? '' : tokenHeader('Content-ID', [`<${contentId}>`]),
    dispositionHeader(contentId === undefined ? 'attachment' : 'inline', filename),
  ].join('');
  if (encoding === '7bit' && Buffer.isBuffer(content)) return { headers, body: [content] };
  const body = Buffer.isBuffer(content)
    ? encodeBase64(content)
    : { stream: content, size: base64Size(content.size) };
  return { headers, body: [body] };
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
