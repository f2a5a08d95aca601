import type { AttachmentOf } from '@flowpost/core';
import type { AttachmentSource } from '../attachment-source.ts';

/** Bytes as they are. */
export function readBytes({ content }: AttachmentOf<'bytes'>): AttachmentSource {
  return { content: Buffer.from(content.buffer, content.byteOffset, content.byteLength) };
}
