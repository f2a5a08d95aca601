import type { AttachmentOf } from '@flowpost/core';
import { type AttachmentContext, attachmentError } from '../attachment-source.ts';
import { dispositionHeader, tokenHeader } from '../compose/header.ts';
import type { MimePart } from '../compose/mime-part.ts';
import { base64Segment, type Segment } from '../compose/segments.ts';
import { isSevenBit, normalizeLineEnds } from '../compose/transfer-encoding.ts';
import { readBase64Text } from './base64.ts';

/** A MIME entity given whole, ready to be written. */
export interface MimeNode extends MimePart {
  readonly contentId?: string;
}

interface Field {
  /** In lower case. */
  readonly name: string;
  /** Unfolded. */
  readonly value: string;
  /** As it was given, with its line ends. */
  readonly lines: string;
}

/** The only header fields that mean anything in a part (RFC 2046 section 5.1). */
const partField = /^(?:content-[!-9;-~]+|x-[!-9;-~]+|mime-version)$/;

function readFields(header: string, refuse: (why: string) => Error): Field[] {
  const strange = /[^\t\r\n\x20-\x7e]|\r(?!\n)|(?<!\r)\n/.exec(header);
  if (strange) {
    const line = header.slice(0, strange.index).split('\n').length;
    throw refuse(`line ${line} of its header has a bare line break, or a character that is not ASCII`);
  }
  const fields = header.split(/\r\n(?![ \t])/).map((lines) => {
    const colon = lines.indexOf(':');
    const name = lines.slice(0, colon).toLowerCase();
    if (colon < 1 || !partField.test(name)) {
      throw refuse(`its header may hold Content- and X- fields, not ${JSON.stringify(lines.slice(0, 60))}`);
    }
    if (lines.split('\r\n').some((line) => line.length > 998)) {
      throw refuse(`the header ${name} has a line of more than 998 characters`);
    }
    return {
      name,
      value: lines
        .slice(colon + 1)
        .replaceAll('\r\n', '')
        .trim(),
      lines: `${lines}\r\n`,
    };
  });
  const names = fields.map(({ name }) => name).filter((name) => name.startsWith('content-'));
  const seen = new Set<string>();
  const twice = names.find((name) => seen.size === seen.add(name).size);
  if (twice !== undefined) throw refuse(`its header has ${twice} twice`);
  return fields;
}

/** Whether a type holds other entities, whose encoding is their own business (RFC 2045 section 6.4). */
const isComposite = (type: string): boolean => /^(?:multipart|message)\//i.test(type);

function checkType(type: string, body: string, refuse: (why: string) => Error): void {
  if (!/^[!#$%&'*+.^_`{|}~0-9a-z-]+\/[!#$%&'*+.^_`{|}~0-9a-z-]+(?:\s*;|$)/i.test(type)) {
    throw refuse('its Content-Type is not a media type');
  }
  if (!/^multipart\//i.test(type)) return;
  const [, quoted, bare] = /;\s*boundary=(?:"([^"\\]{1,70})"|([^\s;"]{1,70}))/i.exec(type) ?? [];
  const boundary = quoted ?? bare;
  if (boundary === undefined) throw refuse('its multipart type names no boundary');
  const lines = body.split(/\r\n|\r|\n/).map((line) => line.trimEnd());
  const last = lines.lastIndexOf(`--${boundary}`);
  if (last < 0) throw refuse('its body has no part: its boundary begins no line');
  if (!lines.includes(`--${boundary}--`, last)) throw refuse('its body does not end with its boundary');
}

/** The body as it will be written, and the encoding to name when it is another than the author's. */
function encodeBody(
  { content, type, encoding, isText }: { content: Buffer; type: string; encoding: string; isText: boolean },
  context: AttachmentContext,
  refuse: (why: string) => Error,
): { body: Segment; encoding: string } {
  if (encoding === 'base64' && !isComposite(type)) {
    return { body: base64Segment(readBase64Text(content.toString('latin1'), context)), encoding };
  }
  const lines = Buffer.from(normalizeLineEnds(content.toString('latin1')), 'latin1');
  if (encoding === 'quoted-printable') {
    const isValid = isSevenBit(lines) && !/=(?![0-9a-f]{2}|\r\n)/i.test(lines.toString('latin1'));
    if (isComposite(type) || !isValid) throw refuse('its body is not quoted-printable');
    return { body: lines, encoding };
  }
  if (!['7bit', '8bit', 'binary'].includes(encoding)) {
    throw refuse(`its Content-Transfer-Encoding ${JSON.stringify(encoding.slice(0, 40))} is not known`);
  }
  // In a binary body line ends are bytes like any other.
  const isExact = encoding !== 'binary' || isComposite(type) || lines.equals(content);
  if (isExact && isSevenBit(lines)) return { body: lines, encoding: '7bit' };
  if (isComposite(type)) {
    throw refuse(
      'a part within its body needs quoted-printable or base64: it has 8-bit characters or long lines',
    );
  }
  const isAscii = lines.every((byte) => byte < 0x80);
  if (isText && !isAscii && /^(?:text\/|$)/i.test(type) && !/;\s*charset="?utf-8"?/i.test(type)) {
    throw refuse(
      'its body has characters that are not ASCII, and its Content-Type does not say charset=utf-8',
    );
  }
  return { body: base64Segment(content), encoding: 'base64' };
}

/** What is typed into a form ends its lines in LF. Only where all of the header does: a lone one comes from elsewhere. */
function withFormLines(raw: string): string {
  const end = raw.indexOf('\n\n');
  const header = raw.slice(0, end);
  if (end < 1 || header.includes('\r')) return raw;
  return `${header.replaceAll('\n', '\r\n')}\r\n\r\n${raw.slice(end + 2)}`;
}

/**
 * A MIME entity whose header and body its author wrote (RFC 2045, RFC 2046). The header is kept as it is once it is
 * known to be one; the body is kept too, unless only another encoding gets it through a 7-bit channel unharmed.
 *
 * @throws MailError `ATTACHMENT_INVALID`.
 */
export function readMime(attachment: AttachmentOf<'mime'>, context: AttachmentContext): MimeNode {
  const refuse = (why: string) => attachmentError('ATTACHMENT_INVALID', `${why}.`, context);
  const { raw, filename, contentType, contentId } = attachment;
  const isText = typeof raw === 'string';
  const bytes = isText
    ? Buffer.from(withFormLines(raw), 'utf8')
    : Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 1)
    throw refuse(
      'there is no header, ended by an empty line; all its lines must end in CRLF, or in text all in LF',
    );
  const fields = readFields(bytes.toString('latin1', 0, end), refuse);
  const find = (name: string) => fields.find((field) => field.name === name)?.value;
  for (const [name, given] of [
    ['content-type', contentType],
    ['content-id', contentId],
    ['content-disposition', filename],
  ] as const) {
    if (given !== undefined && find(name) !== undefined) throw refuse(`${name} is given twice`);
  }
  const content = bytes.subarray(end + 4);
  const type = find('content-type') ?? contentType ?? '';
  if (type !== '') checkType(type, content.toString('latin1'), refuse);
  const declared = (find('content-transfer-encoding') ?? '7bit').toLowerCase();
  const { body, encoding } = encodeBody({ content, type, encoding: declared, isText }, context, refuse);
  const id = contentId ?? /^<([!-;=?-~]{1,250})>$/.exec(find('content-id') ?? '')?.[1];
  const headers = [
    ...fields.filter(({ name }) => name !== 'content-transfer-encoding').map(({ lines }) => lines),
    `Content-Transfer-Encoding: ${encoding}\r\n`,
    contentType === undefined ? '' : tokenHeader('Content-Type', [contentType]),
    contentId === undefined ? '' : tokenHeader('Content-ID', [`<${contentId}>`]),
    filename === undefined ? '' : dispositionHeader(id === undefined ? 'attachment' : 'inline', filename),
  ].join('');
  return { headers, body: [body], ...(id !== undefined && { contentId: id }) };
}
