/** Content-Transfer-Encodings of RFC 2045 section 6. Binary and 8bit are never used: not every server takes them. */
export type TransferEncoding = '7bit' | 'quoted-printable' | 'base64';

const maxLine = 998;
const encodedLine = 76;
const rawPerLine = 57;

/** Line ends become CRLF: a lone CR or LF must never leave (RFC 5321 section 2.3.8). */
function normalizeLineEnds(text: string): string {
  return /\r(?!\n)|(?<!\r)\n/.test(text) ? text.replace(/\r\n|\r|\n/g, '\r\n') : text;
}

function hasLongLine(text: string): boolean {
  for (let start = 0; text.length - start > maxLine; ) {
    const end = text.indexOf('\r\n', start);
    if (end < 0 || end - start > maxLine) return true;
    start = end + 2;
  }
  return false;
}

/** Bytes that 7bit cannot carry, or that a reader would take for something else. */
const notPlain = /[^\t\r\n\x20-\x7e]/;

/** The body of a text part: the encoding that suits the text, and the encoded bytes. */
export function encodeText(text: string): { encoding: TransferEncoding; content: string | Buffer } {
  const normalized = normalizeLineEnds(text);
  if (!notPlain.test(normalized) && !hasLongLine(normalized))
    return { encoding: '7bit', content: normalized };
  const bytes = Buffer.from(normalized, 'utf8');
  let escaped = 0;
  for (const byte of bytes) if (byte > 0x7e || byte === 0x3d) escaped++;
  // Quoted-printable costs two more bytes for each escaped one, base64 a third of everything.
  return escaped * 2 <= bytes.length * 0.37
    ? { encoding: 'quoted-printable', content: encodeQuotedPrintable(bytes) }
    : { encoding: 'base64', content: encodeBase64(bytes) };
}

const hex = Buffer.from('0123456789ABCDEF', 'latin1');
const CR = 0x0d;
const LF = 0x0a;
const EQUALS = 0x3d;

function isPlainByte(byte: number): boolean {
  return (byte >= 0x20 && byte <= 0x7e && byte !== EQUALS) || byte === 0x09;
}

/**
 * Quoted-printable (RFC 2045 section 6.7) of bytes whose line ends are CRLF: lines of at most 76 characters, white
 * space at the end of a line encoded.
 */
export function encodeQuotedPrintable(bytes: Uint8Array): Buffer {
  const { length } = bytes;
  const out = Buffer.allocUnsafe(length * 3 + Math.ceil(length / 24) * 3 + 3);
  let at = 0;
  let column = 0;
  for (let index = 0; index < length; index++) {
    const byte = bytes[index] as number;
    if (byte === CR && bytes[index + 1] === LF) {
      out[at++] = CR;
      out[at++] = LF;
      index++;
      column = 0;
      continue;
    }
    const endsLine = index + 1 === length || (bytes[index + 1] === CR && bytes[index + 2] === LF);
    const plain = isPlainByte(byte) && !(endsLine && (byte === 0x20 || byte === 0x09));
    const width = plain ? 1 : 3;
    // One column is kept for the = of a soft line break, except before a hard one.
    if (column + width > (endsLine ? encodedLine : encodedLine - 1)) {
      out[at++] = EQUALS;
      out[at++] = CR;
      out[at++] = LF;
      column = 0;
    }
    if (plain) {
      out[at++] = byte;
    } else {
      out[at++] = EQUALS;
      out[at++] = hex[byte >> 4] as number;
      out[at++] = hex[byte & 15] as number;
    }
    column += width;
  }
  return out.subarray(0, at);
}

/** The size of {@link encodeBase64}'s result. */
export function base64Size(length: number): number {
  const encoded = Math.ceil(length / 3) * 4;
  return encoded + Math.max(0, Math.ceil(encoded / encodedLine) - 1) * 2;
}

/** Base64 in lines of 76 characters (RFC 2045 section 6.8), without a line end after the last. */
export function encodeBase64(bytes: Uint8Array): Buffer {
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = Buffer.allocUnsafe(base64Size(source.length));
  // Encoded in one call and cut into lines afterwards: a call for each line costs several times as much.
  const encoded = source.toString('base64');
  let at = 0;
  for (let start = 0; start < encoded.length; start += encodedLine) {
    if (start > 0) {
      out[at++] = CR;
      out[at++] = LF;
    }
    at += out.write(encoded.slice(start, start + encodedLine), at, 'latin1');
  }
  return out;
}

/** The same for content that comes in chunks; only what does not fill a line is held back. */
export async function* encodeBase64Stream(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0);
  let first = true;
  const lineEnd = Buffer.from('\r\n');
  for await (const chunk of chunks) {
    const bytes =
      held.length > 0
        ? Buffer.concat([held, chunk])
        : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const whole = bytes.length - (bytes.length % rawPerLine);
    // Copied, because the reader may reuse the memory of its chunk.
    held = Buffer.from(bytes.subarray(whole));
    if (whole === 0) continue;
    if (!first) yield lineEnd;
    first = false;
    yield encodeBase64(bytes.subarray(0, whole));
  }
  if (held.length > 0) {
    if (!first) yield lineEnd;
    yield encodeBase64(held);
  }
}
