import type { AttachmentOf } from '@flowpost/core';
import type { AttachmentContext, AttachmentSource } from '../attachment-source.ts';
import { readDataUrl } from '../fetching/data-url.ts';

async function fetchFrom(url: string, context: AttachmentContext): Promise<AttachmentSource> {
  // Loaded when wanted: most messages need nothing from the network, and many are the only one of their process.
  const { fetchUrl } = await import('../fetching/fetch-url.ts');
  return fetchUrl(url, context);
}

/** What an http, https or data URL leads to. */
export function readUrl(
  { url }: AttachmentOf<'url'>,
  context: AttachmentContext,
): AttachmentSource | Promise<AttachmentSource> {
  return /^\s*data:/i.test(url) ? readDataUrl(url.trimStart(), context) : fetchFrom(url, context);
}
