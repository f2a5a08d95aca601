import { Readable } from 'node:stream';
import { MailError } from '@flowpost/core';
import type { StreamedContent } from '../attachment-source.ts';
import { RelaxedBodyHash } from './dkim.ts';
import { base64Size, encodeBase64Stream, writeBase64 } from './transfer-encoding.ts';

/** Content to be written in base64. */
export interface Base64Segment {
  readonly content: Buffer | StreamedContent;
  /** Its size once encoded. */
  readonly size: number;
}

/** A piece of the message, in order. Strings are ASCII, but for addresses that need SMTPUTF8. */
export type Segment = string | Buffer | Base64Segment;

export function base64Segment(content: Buffer | StreamedContent): Base64Segment {
  return { content, size: base64Size(Buffer.isBuffer(content) ? content.length : content.size) };
}

function segmentSize(segment: Segment): number {
  if (typeof segment === 'string') return Buffer.byteLength(segment);
  return Buffer.isBuffer(segment) ? segment.length : segment.size;
}

/** How many bytes pieces have when they are written. */
export const sizeOf = (segments: readonly Segment[]): number =>
  segments.reduce((size, segment) => size + segmentSize(segment), 0);

export function endsWithLineEnd(segment: Segment | undefined): boolean {
  if (Buffer.isBuffer(segment)) return segment.at(-1) === 0x0a;
  return typeof segment === 'string' && segment.endsWith('\n');
}

/** What is to be streamed among the pieces. */
export function streamedContents(segments: readonly Segment[]): StreamedContent[] {
  return segments.flatMap((segment) =>
    typeof segment === 'string' || Buffer.isBuffer(segment) || Buffer.isBuffer(segment.content)
      ? []
      : segment.content,
  );
}

/** In characters; above it, one text is no faster than its pieces, and at some length there is none. */
const longText = 100_000;

/** The pieces as one text; undefined when they are something else besides, or too long. */
function joinedText(segments: readonly Segment[]): string | undefined {
  let text = '';
  for (const segment of segments) {
    if (typeof segment !== 'string' || text.length + segment.length > longText) return undefined;
    text += segment;
  }
  return text;
}

/** Writes pieces that are all in memory into one Buffer. Base64 is encoded where it belongs. */
export function joinSegments(segments: readonly Segment[]): Buffer {
  // Most messages are nothing but text.
  const text = joinedText(segments);
  if (text !== undefined) return Buffer.from(text);
  const body = Buffer.allocUnsafe(sizeOf(segments));
  let at = 0;
  for (const segment of segments) {
    if (typeof segment === 'string') at += body.write(segment, at);
    else if (Buffer.isBuffer(segment)) at += segment.copy(body, at);
    else if (Buffer.isBuffer(segment.content)) at = writeBase64(segment.content, body, at);
    else throw new TypeError('content that streams cannot be joined in memory');
  }
  return body;
}

/** The pieces as they are written, one after another. */
export async function* readSegments(segments: readonly Segment[]): AsyncGenerator<Buffer> {
  for (const segment of segments) {
    if (typeof segment === 'string') yield Buffer.from(segment);
    else if (Buffer.isBuffer(segment)) yield segment;
    else if (Buffer.isBuffer(segment.content)) yield joinSegments([segment]);
    else yield* encodeBase64Stream(segment.content.open());
  }
}

/**
 * The pieces of a signed message, the header first. Its end is kept back until the body is known to be the one that was
 * signed.
 *
 * @throws MailError `ATTACHMENT_CHANGED`.
 */
export async function* readUnchanged(
  [head = '', ...content]: readonly Segment[],
  bodyHash: string,
): AsyncGenerator<Buffer> {
  const hash = new RelaxedBodyHash();
  yield* readSegments([head]);
  let last: Buffer | undefined;
  for await (const chunk of readSegments(content)) {
    hash.update(chunk);
    if (last) yield last;
    last = chunk;
  }
  if (hash.digest() !== bodyHash) {
    throw new MailError('ATTACHMENT_CHANGED', 'An attachment changed after the message had been signed.', {
      phase: 'attachments',
    });
  }
  if (last) yield last;
}

/**
 * The pieces as a stream with back-pressure. What the contents hold is released when it closes, whether it was read
 * to its end or destroyed before.
 */
export function streamBody(chunks: AsyncIterable<Buffer>, contents: readonly StreamedContent[]): Readable {
  const body = Readable.from(chunks, { objectMode: false });
  const release = (): void => {
    for (const content of contents) content.release?.();
  };
  // Released first: destroying waits for the chunk that is awaited, and that may never come.
  const destroy = body._destroy.bind(body);
  body._destroy = (error, done) => {
    release();
    destroy(error, done);
  };
  return body;
}
