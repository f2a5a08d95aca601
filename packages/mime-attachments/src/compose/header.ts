import { headerTextProblem, MailError } from '@flowpost/core';

/** RFC 5322 section 2.1.1 recommends 78 characters a line, RFC 2047 section 2 demands 76 with encoded words. */
const lineLength = 76;
const encodedWordLength = 75;
const hardLimit = 998;
const plainText = /^[\x20-\x7e\t]*$/;
/** Nowhere to fold for longer than a line may be; with the longest header name this leaves room. */
const longestWord = 800;
const longestGap = 76;

function isUnfoldable(text: string): boolean {
  if (text.length < longestGap) return false;
  let word = 0;
  let gap = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    const isSpace = code === 0x20 || code === 0x09;
    gap = isSpace ? gap + 1 : 0;
    word = isSpace ? 0 : word + 1;
    if (word === longestWord || gap === longestGap) return true;
  }
  return false;
}

/**
 * Writes one header line, folded. The pieces are what may stand on a line of its own; all but the first begin
 * with the white space that a fold goes before.
 */
export function foldHeader(name: string, pieces: readonly string[]): string {
  let folded = '';
  let line = `${name}: ${pieces[0] ?? ''}`;
  for (let index = 1; index < pieces.length; index++) {
    const piece = pieces[index] as string;
    if (line.length + piece.length > lineLength) {
      folded += `${line}\r\n`;
      line = piece;
    } else {
      line += piece;
    }
  }
  return `${folded}${line}\r\n`;
}

/** The last gate before the wire: whatever path a value took, no line break gets past here. */
function assertHeaderText(name: string, text: string): void {
  const problem = /^[!-9;-~]+$/.test(name) ? headerTextProblem(text) : 'its name is no header name';
  if (problem) {
    throw new MailError(
      'HEADER_INVALID',
      `The header ${JSON.stringify(name)} cannot be written: ${problem}.`,
    );
  }
}

const qSafe = /[A-Za-z0-9!*+/-]/;
const qTable: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte);
  if (char === ' ') return '_';
  return byte < 0x80 && qSafe.test(char) ? char : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
});

function qEncode(text: string): string {
  let encoded = '';
  for (const byte of Buffer.from(text, 'utf8')) encoded += qTable[byte];
  return encoded;
}

/** Room for any character, encoded. */
const shortestWord = 24;

/**
 * Encoded words of RFC 2047 in UTF-8, each at most 75 characters and split between characters, in the shorter
 * of the two encodings. Decoders join them without the space between. The Q encoding uses the small alphabet
 * that is allowed in a display name, so the words fit everywhere. Base64 ends without padding where it can: some decoders join words
 * before they decode them, and stop at the first `=`.
 *
 * @param firstLine how many characters the first word may have, for what stands before it on its line.
 */
export function encodeWords(text: string, firstLine: number = encodedWordLength): string[] {
  const encoding = qEncode(text).length <= Math.ceil(Buffer.byteLength(text) / 3) * 4 ? 'Q' : 'B';
  const room = (limit: number): number => limit - '=?UTF-8?Q??='.length;
  const words: string[] = [];
  let limit = room(Math.max(firstLine, shortestWord));
  let chunk = '';
  let cost = 0;
  /** As much of the chunk as needs no padding. */
  let whole = { length: 0, cost: 0 };
  const flush = (end = { length: chunk.length, cost }): void => {
    const text = chunk.slice(0, end.length);
    const content = encoding === 'Q' ? text : Buffer.from(text, 'utf8').toString('base64');
    words.push(`=?UTF-8?${encoding}?${content}?=`);
    chunk = chunk.slice(end.length);
    cost -= end.cost;
    whole = { length: 0, cost: 0 };
    limit = room(encodedWordLength);
  };
  const lengthWith = (size: number): number =>
    encoding === 'Q' ? cost + size : Math.ceil((cost + size) / 3) * 4;
  for (const char of text) {
    const unit = encoding === 'Q' ? qEncode(char) : char;
    const size = encoding === 'Q' ? unit.length : Buffer.byteLength(char);
    while (lengthWith(size) > limit && chunk !== '') flush(whole.length > 0 ? whole : undefined);
    chunk += unit;
    cost += size;
    if (encoding === 'B' && cost % 3 === 0) whole = { length: chunk.length, cost };
  }
  flush();
  return words;
}

/** Whether a decoder would take a text for something else than it says, so that it must be encoded. */
export function needsEncoding(text: string): boolean {
  return !plainText.test(text) || text.includes('=?') || /^[ \t]|[ \t]$/.test(text) || isUnfoldable(text);
}

/** A header of free text, such as Subject (RFC 5322 section 2.2.1). */
export function textHeader(name: string, value: string): string {
  assertHeaderText(name, value);
  if (value === '') return `${name}: \r\n`;
  if (!needsEncoding(value)) {
    if (name.length + 2 + value.length <= lineLength) return `${name}: ${value}\r\n`;
    return foldHeader(name, value.match(/[ \t]*[^ \t]+/g) ?? []);
  }
  const left = lineLength - name.length - 2;
  // A line with encoded words has at most 76 characters (RFC 2047 section 2), so beside a long name there is none.
  if (left < shortestWord) return `${name}:\r\n ${encodeWords(value).join('\r\n ')}\r\n`;
  const words = encodeWords(value, left);
  return foldHeader(name, [words[0] ?? '', ...words.slice(1).map((word) => ` ${word}`)]);
}

/** A header whose value is tokens that must not be encoded, such as message ids and media types. */
export function tokenHeader(name: string, tokens: readonly string[]): string {
  for (const token of tokens) {
    assertHeaderText(name, token);
    if (/[^\x20-\x7e]/.test(token)) {
      throw new MailError(
        'HEADER_INVALID',
        `The header ${name} has a part that is not ASCII and cannot be encoded.`,
      );
    }
    if (token.length > hardLimit - name.length - 2) {
      throw new MailError(
        'HEADER_INVALID',
        `The header ${name} has a part longer than ${hardLimit} characters.`,
      );
    }
  }
  return foldHeader(name, tokens.length > 1 ? tokens.map(afterSpace) : tokens);
}

const afterSpace = (token: string, index: number): string => (index === 0 ? token : ` ${token}`);

const attributeChar = /[^A-Za-z0-9!#$&+.^_`|~-]/g;

function percentEncode(text: string): string {
  return encodeURIComponent(text).replace(attributeChar, (char) =>
    char === '%' ? char : `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

const longestPlain = 60;
const isPlainParameter = (value: string): boolean =>
  /^[\x20-\x7e]*$/.test(value) && value.length <= longestPlain && !value.includes('=?');

const quotedParameter = (name: string, value: string): string =>
  `${name}="${value.replace(/["\\]/g, '\\$&')}"`;

/** A name in ASCII that is still readable: accents off, everything else replaced. */
function toAscii(value: string): string {
  return value
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .replaceAll('ß', 'ss')
    .replace(/[^\x20-\x7e]+|=(?=\?)/g, '_');
}

/** What readers that do not know RFC 2231 get: the end with the extension, when the whole is too long. */
function asciiFallback(name: string, value: string): string {
  const ascii = toAscii(value);
  return quotedParameter(name, ascii.length <= longestPlain ? ascii : ascii.slice(-longestPlain));
}

/**
 * A parameter of a structured header (RFC 2045 section 5.1) as one or more tokens. Text that is not plain ASCII, or
 * long, is written in the extended form of RFC 2231 (for one line the same as RFC 8187), continued where it must be,
 * and once more in plain ASCII. The plain form comes last, because some parsers take what they see first.
 */
function parameter(name: string, value: string): string[] {
  assertHeaderText(name, value);
  if (isPlainParameter(value)) return [quotedParameter(name, value)];
  const fallback = asciiFallback(name, value);
  const encoded = percentEncode(value);
  const room = lineLength - name.length - '*00*=;'.length - 1;
  if (encoded.length + "utf-8''".length <= room) return [`${name}*=utf-8''${encoded}`, fallback];
  // The charset stands before the first chunk, and none ends inside a character: some readers decode each by itself.
  const chunks = ["utf-8''"];
  for (const char of value) {
    const unit = percentEncode(char);
    const last = chunks.length - 1;
    if ((chunks[last] as string).length + unit.length > room) chunks.push(unit);
    else chunks[last] += unit;
  }
  return [...chunks.map((chunk, index) => `${name}*${index}*=${chunk}`), fallback];
}

/** Content-Disposition with a file name (RFC 2183). */
export function dispositionHeader(disposition: 'inline' | 'attachment', filename: string): string {
  const parameters = parameter('filename', filename);
  const pieces = parameters.map((text, index) => ` ${text}${index < parameters.length - 1 ? ';' : ''}`);
  return foldHeader('Content-Disposition', [`${disposition};`, ...pieces]);
}

/** The same for readers that do not know RFC 2231: encoded words, which the RFCs do not allow here and everybody reads. */
export function legacyParameter(name: string, value: string): string[] {
  assertHeaderText(name, value);
  if (isPlainParameter(value)) return [quotedParameter(name, value)];
  return `${name}="${encodeWords(value, encodedWordLength - name.length - 4).join(' ')}"`.split(' ');
}
