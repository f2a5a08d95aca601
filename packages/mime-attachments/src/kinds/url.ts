import type { AttachmentOf } from '@flowpost/core';
import type { AttachmentContext, AttachmentSource } from '../attachment-source.ts';
import { readDataUrl } from '../fetching/data-url.ts';
import { fetchUrl } from '../fetching/fetch-url.ts';

/** What an http, https or data URL leads to. */
export function readUrl(
  { url }: AttachmentOf<'url'>,
  context: AttachmentContext,
): AttachmentSource | Promise<AttachmentSource> {
  return /^\s*data:/i.test(url) ? readDataUrl(url.trimStart(), context) : fetchUrl(url, context);
}
