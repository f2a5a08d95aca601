import type { AttachmentOf } from '@flowpost/core';
import type { AttachmentSource } from '../attachment-source.ts';

/** Text, encoded as UTF-8. Its line endings stay as they are. */
export function readText({ content }: AttachmentOf<'text'>): AttachmentSource {
  return { content: Buffer.from(content, 'utf8'), filename: 'attachment.txt', fallbackType: 'text/plain' };
}
