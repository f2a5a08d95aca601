import { parse } from 'content-disposition';
import { extensionOf } from '../content-type.ts';

/** The most characters a file name has. */
const longest = 255;

/** As much of the end of a name as a file name can have: there is its extension. */
export const endOfName = (name: string): string => name.slice(-longest).toWellFormed();

/** A name out of somebody else's hands: its last path segment, without what a file name or header cannot hold. */
function safeName(name: string): string | undefined {
  const last = name.toWellFormed().split(/[/\\]/).at(-1) ?? '';
  const clean = endOfName(last.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffd]/gu, '').trim());
  return clean === '' || /^\.+$/.test(clean) ? undefined : clean;
}

/** Header bytes arrive as Latin-1; many servers write UTF-8 there. */
export function asUtf8(text: string): string {
  if (/[^\x00-\xff]/.test(text)) return text;
  const decoded = Buffer.from(text, 'latin1').toString('utf8');
  return decoded.includes('\ufffd') ? text : decoded;
}

/** The name a Content-Disposition header gives (RFC 6266, RFC 8187: `filename*` before `filename`). */
function nameInDisposition(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const { filename } = parse(header).parameters;
  return filename === undefined ? undefined : safeName(asUtf8(filename));
}

/** The name at the end of a URL's path; with an extension by its type when it has none. */
function nameInPath({ pathname }: URL, contentType: string | undefined): string | undefined {
  const last = pathname.split('/').at(-1) ?? '';
  let decoded = last;
  try {
    decoded = decodeURIComponent(last);
  } catch {
    // Not UTF-8 after all; the escapes are better than nothing.
  }
  const name = safeName(decoded);
  if (name === undefined || contentType === undefined || /\.[^.]+$/.test(name)) return name;
  return endOfName(`${name}.${extensionOf(contentType)}`);
}

/** What a downloaded attachment is called when its author gave it no name. */
export function responseName(
  disposition: string | undefined,
  url: URL,
  contentType: string | undefined,
): string | undefined {
  return nameInDisposition(disposition) ?? nameInPath(url, contentType);
}
