import { isMediaType } from '@flowpost/core';
import { detectExtension, detectMimeType } from 'nodemailer/lib/mime-funcs/mime-types';
import type { AttachmentSource, StreamedContent } from './attachment-source.ts';

export const octetStream = 'application/octet-stream';
/** As many first bytes as the formats' signatures need. */
export const sampleBytes = 4_100;

/** Splits what semicolons separate, where they do not stand in quotes. */
export const splitParameters = (text: string): string[] =>
  text.split(/;(?=(?:[^"]*"[^"]*")*[^"]*$)/).map((part) => part.trim());

/** Longer is none, and would take time with the square of its length. In characters. */
const longestType = 2_000;

/**
 * What a server or a data URL says the type is, without what is no parameter, and without a name: that is for its author to give.
 */
export function declaredType(text: string): string | undefined {
  if (text.length > longestType) return undefined;
  const [type = '', ...parameters] = splitParameters(text);
  const kept = parameters.filter((one) => !/^name\b/i.test(one) && isMediaType(`text/plain;${one}`));
  const whole = [type, ...kept].join('; ');
  return isMediaType(whole) ? whole : undefined;
}

/** Where nodemailer's table means another format, or misspells it. */
const otherwise: Readonly<Record<string, string>> = {
  py: 'text/x-python',
  sh: 'application/x-sh',
  stl: 'model/stl',
};

/** The media type its name's extension stands for, if it stands for any. */
export function typeByName(filename: string): string | undefined {
  const extension = /\.([^.]+)$/.exec(filename)?.[1]?.toLowerCase();
  if (extension === undefined) return undefined;
  const type = Object.hasOwn(otherwise, extension) ? otherwise[extension] : detectMimeType(filename);
  // The table has a multipart type or two, which a part without parts cannot be.
  return type === undefined || type === octetStream || !isMediaType(type) ? undefined : type;
}

/** What the name of a file of a media type ends with, without the dot; `bin` where there is nothing usual. */
export function extensionOf(contentType: string): string {
  const extension = detectExtension(contentType.split(';')[0]?.trim());
  return /^\w+$/.test(extension) ? extension : 'bin';
}

async function firstBytes(content: Buffer | StreamedContent): Promise<Uint8Array> {
  if (Buffer.isBuffer(content)) return content.subarray(0, sampleBytes);
  if (content.sample) return content.sample.subarray(0, sampleBytes);
  for await (const chunk of content.open()) return chunk.subarray(0, sampleBytes);
  return Buffer.alloc(0);
}

/** The media type the first bytes stand for, or undefined. */
export async function typeByContent({ content }: AttachmentSource): Promise<string | undefined> {
  const sample = await firstBytes(content);
  if (sample.length < 4) return undefined;
  const { fileTypeFromBuffer } = await import('file-type');
  // It parses what may be cut off or hostile; what it cannot make out is no news.
  return (await fileTypeFromBuffer(sample).catch(() => undefined))?.mime;
}
