/** A part of a message, as it stands in its bytes. */
export interface MimePart {
  readonly contentType: string;
  readonly encoding: string | undefined;
  readonly disposition: string | undefined;
  readonly filename: string | undefined;
  readonly contentId: string | undefined;
  /** Of its content as it is transferred. */
  readonly bytes: number;
  readonly parts: readonly MimePart[];
}

export interface MimeTree extends MimePart {
  /** Names and values, unfolded. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** RFC 5322 section 2.2.3: a line that begins with white space belongs to the one before. */
function readHeaders(text: string): [string, string][] {
  return text
    .replace(/\r\n(?=[ \t])/g, '')
    .split('\r\n')
    .filter((line) => line.includes(':'))
    .map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    });
}

/** A parameter of a header (RFC 2045 section 5.1); of one that is continued or encoded (RFC 2231), all its pieces together. */
function parameter(value: string, name: string): string | undefined {
  const pattern = new RegExp(`;\\s*${name}(\\*\\d+)?(\\*)?=("(?:[^"\\\\]|\\\\.)*"|[^;\\s]+)`, 'gi');
  const pieces = [...value.matchAll(pattern)].map(([, piece, extended, raw = '']) => {
    const text = raw.startsWith('"') ? raw.slice(1, -1).replace(/\\(.)/g, '$1') : raw;
    return {
      isWhole: piece === undefined && extended === undefined,
      isExtended: extended !== undefined,
      text,
    };
  });
  // For those who do not know the other form it is there once more, as near as ASCII comes to it.
  const better = pieces.filter(({ isWhole }) => !isWhole);
  const used = better.length > 0 ? better : pieces.slice(0, 1);
  if (used.length === 0) return undefined;
  // Pieces may part in the middle of a character. What is not encoded is its own text, per cent signs included.
  const encoded = used
    .map(({ isExtended, text }) =>
      isExtended ? text.replace(/^[^']*'[^']*'/, '') : encodeURIComponent(text.toWellFormed()),
    )
    .join('');
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}

/** Where each part between the lines of a boundary begins and ends (RFC 2046 section 5.1.1). */
function* between(bytes: Buffer, boundary: string): Generator<Buffer> {
  const line = Buffer.from(`\r\n--${boundary}`);
  const first = bytes.subarray(0, line.length - 2).equals(line.subarray(2)) ? -2 : bytes.indexOf(line);
  let at = first;
  while (at !== -1) {
    const begin = bytes.indexOf('\r\n', at + line.length);
    const end = bytes.indexOf(line, at + line.length);
    if (begin === -1 || end === -1) return;
    yield bytes.subarray(begin + 2, Math.max(begin + 2, end));
    at = end;
  }
}

/** The structure of a message that was composed here, and so is well formed. */
export function readMimeTree(bytes: Buffer): MimeTree {
  const blank = bytes.indexOf('\r\n\r\n');
  const headers = readHeaders(bytes.toString('utf8', 0, blank === -1 ? bytes.length : blank));
  const content = blank === -1 ? Buffer.alloc(0) : bytes.subarray(blank + 4);
  const header = (name: string): string | undefined =>
    headers.find(([one]) => one.toLowerCase() === name)?.[1];
  const type = header('content-type') ?? 'text/plain';
  const disposition = header('content-disposition');
  const boundary = /^multipart\//i.test(type) ? parameter(type, 'boundary') : undefined;
  return {
    headers,
    contentType: type.split(';', 1)[0]?.trim().toLowerCase() ?? '',
    encoding: header('content-transfer-encoding'),
    disposition: disposition?.split(';', 1)[0]?.trim(),
    filename: (disposition && parameter(disposition, 'filename')) ?? parameter(type, 'name'),
    contentId: header('content-id'),
    bytes: content.length,
    parts: boundary === undefined ? [] : [...between(content, boundary)].map(readMimeTree),
  };
}
