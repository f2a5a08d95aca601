import type { AttachmentOf } from '@flowpost/core';
import type { AttachmentSource } from '../attachment-source.ts';

/** Text or bytes with a media type of the author's own. */
export function readCustom({ content }: AttachmentOf<'custom'>): AttachmentSource {
  return {
    content:
      typeof content === 'string'
        ? Buffer.from(content, 'utf8')
        : Buffer.from(content.buffer, content.byteOffset, content.byteLength),
  };
}
