import type { AttachmentOf } from '@flowpost/core';
import { type AttachmentContext, type AttachmentSource, attachmentError } from '../attachment-source.ts';

const notBase64 = /[^A-Za-z0-9+/_=\s-]/;

/**
 * Base64 (RFC 4648 section 4) or its URL-safe form (section 5), padded or not, with white space anywhere.
 * Anything else is refused, because Node would skip over it and attach damaged content without a word.
 */
export function readBase64(
  { content }: AttachmentOf<'base64'>,
  context: AttachmentContext,
): AttachmentSource {
  const junk = notBase64.exec(content);
  if (junk) {
    throw attachmentError('ATTACHMENT_INVALID', `character ${junk.index + 1} is not base64.`, context, {
      details: { character: junk.index + 1 },
    });
  }
  const compact = /\s/.test(content) ? content.replace(/\s+/g, '') : content;
  const padding = compact.indexOf('=');
  const digits = padding < 0 ? compact.length : padding;
  const paddingFits = padding < 0 || (compact.length % 4 === 0 && compact.length - padding <= 2);
  if (digits % 4 === 1 || !paddingFits || !/^=*$/.test(compact.slice(digits))) {
    throw attachmentError('ATTACHMENT_INVALID', 'the base64 text is cut off or wrongly padded.', context);
  }
  return { content: Buffer.from(compact, 'base64') };
}
