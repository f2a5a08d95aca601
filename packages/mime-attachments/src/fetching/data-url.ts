import {
  type AttachmentContext,
  type AttachmentSource,
  attachmentError,
  checkSize,
} from '../attachment-source.ts';
import { declaredType, splitParameters } from '../content-type.ts';
import { readBase64Text } from '../kinds/base64.ts';
import { endOfName } from './response-name.ts';

/** The value of a hexadecimal digit, or -1. */
function hexDigit(code = 0): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

/** Percent-encoded octets as bytes; everything else as UTF-8. */
function percentDecode(text: string): Buffer {
  if (!text.includes('%')) return Buffer.from(text, 'utf8');
  const source = Buffer.from(text, 'utf8');
  const out = Buffer.allocUnsafe(source.length);
  let at = 0;
  for (let index = 0; index < source.length; index++) {
    const byte = source[index] as number;
    const high = byte === 0x25 ? hexDigit(source[index + 1]) : -1;
    const low = high < 0 ? -1 : hexDigit(source[index + 2]);
    if (low < 0) out[at++] = byte;
    else {
      out[at++] = high * 16 + low;
      index += 2;
    }
  }
  return out.subarray(0, at);
}

/** Longer is none, and would take time with the square of its length. In characters. */
const longestMetadata = 5_000;

const unquoted = (text: string): string =>
  /^".*"$/s.test(text) ? text.slice(1, -1).replace(/\\(.)/gs, '$1') : text.replace(/^"|"$/g, '');

/** The parameters before the comma: a media type, and a name some programs put there. */
function readMetadata(metadata: string): { contentType?: string; filename?: string } {
  if (metadata.length > longestMetadata) return {};
  const [type = '', ...parameters] = splitParameters(metadata);
  const names = parameters.filter((parameter) => /^(?:file)?name\*?=/i.test(parameter));
  const extended = names.find((parameter) => parameter.slice(0, parameter.indexOf('=')).endsWith('*'));
  const name = extended ?? names[0];
  const value = name?.slice(name.indexOf('=') + 1) ?? '';
  // RFC 8187: what the charset and the language are comes first.
  const written = extended ? value.replace(/^[^']*'[^']*'/, '') : unquoted(value);
  const filename = endOfName(percentDecode(written).toString('utf8'));
  const others = parameters.filter((parameter) => !names.includes(parameter) && parameter !== '');
  // RFC 2397: without a type it is this one, and a charset may stand alone.
  const full = declaredType([type === '' ? 'text/plain' : type, ...others].join('; '));
  return {
    ...(full !== undefined && { contentType: full }),
    ...(filename !== '' && { filename }),
  };
}

/** Where the data begins: at the first comma, unless that stands in a quoted name. */
function commaOf(url: string): number {
  const first = url.indexOf(',');
  const quote = url.slice(0, first).indexOf('"');
  if (quote < 0) return first;
  const [whole] = /^[^",]*(?:"(?:[^"\\]|\\.)*"[^",]*)*,/s.exec(url.slice(0, longestMetadata)) ?? [];
  return whole === undefined ? first : whole.length - 1;
}

/** A data URL (RFC 2397). Base64 in it is read as strictly as anywhere else. */
export function readDataUrl(url: string, context: AttachmentContext): AttachmentSource {
  const comma = commaOf(url);
  if (comma < 0) throw attachmentError('ATTACHMENT_INVALID', 'its data URL has no comma.', context);
  const [, metadata = '', base64] = /^data:([\s\S]*?)(;\s*base64\s*)?$/i.exec(url.slice(0, comma)) ?? [];
  // What stands behind a # is no part of the data; in text it may be all the same, since few write it as an escape.
  const hash = base64 ? url.indexOf('#', comma) : -1;
  const data = hash < 0 ? url.slice(comma + 1) : url.slice(comma + 1, hash);
  // An escape is three characters a byte, so less than a third of the text cannot be left.
  checkSize(Math.floor(data.length / 4), context);
  // Kept out of the decoder when it is not needed: this text may be very long.
  const content = base64
    ? readBase64Text(data.includes('%') ? percentDecode(data).toString('latin1') : data, context)
    : percentDecode(data);
  return { content, ...readMetadata(metadata) };
}
