/** Content-Transfer-Encodings of RFC 2045 section 6. Binary and 8bit are never used: not every server takes them. */
export type TransferEncoding = '7bit' | 'quoted-printable' | 'base64';

const maxLine = 998;
const encodedLine = 76;
const rawPerLine = 57;
/** Lines encoded at once: the scratch memory for them stays in the processor's cache. */
const linesAtOnce = 512;

/** Line ends become CRLF: a lone CR or LF must never leave (RFC 5321 section 2.3.8). */
export function normalizeLineEnds(text: string): string {
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

/** Whether bytes can go as they are: ASCII without NUL, lines of at most 998 characters that end in CRLF. */
export function isSevenBit(bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  return !/[^\t\r\n\x20-\x7e]|\r(?!\n)|(?<!\r)\n/.test(text) && !hasLongLine(text);
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

const scratch = Buffer.allocUnsafeSlow(encodedLine * linesAtOnce);
const scratchView = new DataView(scratch.buffer);

/**
 * Writes base64 in lines of 76 characters (RFC 2045 section 6.8), without a line end after the last.
 *
 * The engine encodes faster than anything written in JavaScript, but without line ends, and a call for each line
 * costs more than the encoding. So it encodes many lines at once into the scratch memory, from where each is copied
 * to its place, eight bytes at a time. They are moved as float64, the fastest such move there is; none of them is a
 * NaN, whose bits could change, since all of them are ASCII.
 *
 * @returns where the next byte goes.
 */
export function writeBase64(bytes: Buffer, out: Buffer, start: number): number {
  const { length } = bytes;
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  const lastLine = Math.max(0, Math.floor((length - 1) / rawPerLine)) * rawPerLine;
  let at = start;
  for (let from = 0; from < lastLine; from += rawPerLine * linesAtOnce) {
    const until = Math.min(lastLine, from + rawPerLine * linesAtOnce);
    const encoded = scratch.write(bytes.toString('base64', from, until), 'latin1');
    for (let read = 0; read < encoded; ) {
      for (let eight = 0; eight < 9; eight++) {
        view.setFloat64(at, scratchView.getFloat64(read));
        read += 8;
        at += 8;
      }
      view.setUint32(at, scratchView.getUint32(read));
      read += 4;
      at += 4;
      out[at++] = CR;
      out[at++] = LF;
    }
  }
  return at + out.write(bytes.toString('base64', lastLine, length), at, 'latin1');
}

/** The same as a Buffer of its own. */
export function encodeBase64(bytes: Buffer): Buffer {
  const out = Buffer.allocUnsafe(base64Size(bytes.length));
  writeBase64(bytes, out, 0);
  return out;
}

/** The same for content that comes in chunks; only what does not fill a line is held back. */
export async function* encodeBase64Stream(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0);
  let first = true;
  for await (const chunk of chunks) {
    let bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (held.length > 0) {
      // The line that was begun is completed by itself, so that the rest need not be copied to stand behind it.
      const missing = rawPerLine - held.length;
      held = Buffer.concat([held, bytes.subarray(0, missing)]);
      bytes = bytes.subarray(missing);
      if (held.length < rawPerLine) continue;
    }
    const whole = bytes.length - (bytes.length % rawPerLine);
    const pieces = [held, bytes.subarray(0, whole)].filter((piece) => piece.length > 0);
    // Copied, because the reader may reuse the memory of its chunk.
    held = Buffer.from(bytes.subarray(whole));
    if (pieces.length === 0) continue;
    yield encodeLines(pieces, first);
    first = false;
  }
  if (held.length > 0) yield encodeLines([held], first);
}

/** Pieces of whole lines, each after the line end of what stands before it. */
function encodeLines(pieces: readonly Buffer[], first: boolean): Buffer {
  const size = pieces.reduce((sum, piece) => sum + 2 + base64Size(piece.length), first ? -2 : 0);
  const out = Buffer.allocUnsafe(size);
  let at = 0;
  for (const piece of pieces) {
    if (at > 0 || !first) at += out.write('\r\n', at, 'latin1');
    at = writeBase64(piece, out, at);
  }
  return out;
}
