import type { AttachmentOf } from '@flowpost/core';
import {
  type AttachmentContext,
  type AttachmentSource,
  attachmentError,
  type StreamedContent,
} from '../attachment-source.ts';

/** Other spaces of Unicode are no white space here: the decoder takes them for digits. */
const space = /[\t\n\v\f\r ]+/g;
const notBase64 = /[^A-Za-z0-9+/_=\t\n\v\f\r -]/;
/** Longer texts are decoded piece by piece as they are sent, so that only the text itself is in memory. */
const inMemoryLimit = 2 * 1024 * 1024;
/** Characters decoded at once; a multiple of four. */
const pieceLength = 256 * 1024;

/** Where the padding of a text begins. One further to the front is found when the digits are counted. */
function contentEnd(text: string): number {
  const padding = text.indexOf('=', Math.max(0, text.length - 64));
  return padding < 0 ? text.length : padding;
}

/** How many characters of a piece are digits of base64, or undefined when something else is among them. */
function countDigits(piece: string): number | undefined {
  // Node's decoder skips the ASCII characters it does not know (and misreads others), so of ASCII a full result proves
  // that there was nothing to skip.
  const isAscii = Buffer.byteLength(piece) === piece.length;
  if (isAscii && piece.length % 4 === 0 && Buffer.from(piece, 'base64').length === (piece.length / 4) * 3) {
    return piece.length;
  }
  const compact = piece.replace(space, '');
  return notBase64.test(compact) || compact.includes('=') ? undefined : compact.length;
}

/** Decodes in pieces; the digits of a group that a piece cuts in two are carried into the next. */
async function* decodePieces(text: string, end: number): AsyncGenerator<Buffer> {
  let carried = '';
  for (let at = 0; at < end; at += pieceLength) {
    const piece = text.slice(at, Math.min(end, at + pieceLength));
    const digits = carried + piece.replace(space, '');
    const whole = at + pieceLength < end ? digits.length - (digits.length % 4) : digits.length;
    carried = digits.slice(whole);
    if (whole > 0) yield Buffer.from(digits.slice(0, whole), 'base64');
  }
}

/**
 * Base64 (RFC 4648 section 4) or its URL-safe form (section 5), padded or not, with white space anywhere.
 * Anything else is refused, because Node would skip over it and attach damaged content without a word.
 *
 * @throws MailError `ATTACHMENT_INVALID`.
 */
export function readBase64Text(content: string, context: AttachmentContext): Buffer | StreamedContent {
  const text = content.trimEnd();
  const end = contentEnd(text);
  let digits = 0;
  for (let at = 0; at < end; at += pieceLength) {
    const piece = text.slice(at, Math.min(end, at + pieceLength));
    const found = countDigits(piece);
    if (found === undefined) {
      const character = at + (notBase64.exec(piece)?.index ?? piece.indexOf('=')) + 1;
      throw attachmentError('ATTACHMENT_INVALID', `character ${character} is not base64.`, context, {
        details: { character },
      });
    }
    digits += found;
  }
  const padding = text.slice(end).replace(space, '');
  const paddingFits = padding === '' || (/^={1,2}$/.test(padding) && (digits + padding.length) % 4 === 0);
  if (digits % 4 === 1 || !paddingFits) {
    throw attachmentError('ATTACHMENT_INVALID', 'the base64 text is cut off or wrongly padded.', context);
  }
  if (text.length <= inMemoryLimit) return Buffer.from(text, 'base64');
  return { size: Math.floor((digits * 3) / 4), open: () => decodePieces(text, end) };
}

/** Content written in base64. */
export function readBase64(
  { content }: AttachmentOf<'base64'>,
  context: AttachmentContext,
): AttachmentSource {
  return { content: readBase64Text(content, context) };
}
