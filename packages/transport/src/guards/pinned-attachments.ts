import { createHash } from 'node:crypto';
import type { AttachmentInput, OutgoingMessage } from '@flowpost/core';
import { type AttachmentPolicy, openAttachments } from '@flowpost/mime-attachments';

/** Up to here, all together, attachments are kept in memory: about what the usual providers take in one message. */
const heldBytes = 25 * 1024 * 1024;

/**
 * A message whose attachments are what they are now: those of files and URLs are read, so that what is compared is what is
 * sent. Beyond 25 MiB an attachment stays where it is and only its digest is taken.
 *
 * @throws MailError of category `attachment`.
 */
export async function pinAttachments(
  message: OutgoingMessage,
  options: { readonly attachments?: AttachmentPolicy | undefined; readonly signal?: AbortSignal | undefined },
): Promise<{ readonly message: OutgoingMessage; readonly digests: readonly string[] }> {
  const { attachments = [] } = message;
  if (!attachments.some(({ kind }) => kind === 'file' || kind === 'url')) return { message, digests: [] };
  const digests: string[] = [];
  const pinned: AttachmentInput[] = [];
  let held = 0;
  // One after another, so that a message of many large files does not hold them all.
  for (const attachment of attachments) {
    if (attachment.kind !== 'file' && attachment.kind !== 'url') {
      pinned.push(attachment);
      continue;
    }
    using opened = await openAttachments([attachment], options);
    const [one] = opened.attachments;
    if (!one) continue;
    if (held + one.sizeBytes > heldBytes) {
      const digest = createHash('sha256');
      for await (const chunk of one.read()) digest.update(chunk);
      digests.push(digest.digest('base64'));
      pinned.push(attachment);
      continue;
    }
    held += one.sizeBytes;
    const { filename, contentType, contentId } = one;
    const content = Buffer.concat(await Array.fromAsync(one.read()));
    pinned.push({
      kind: 'bytes',
      content,
      filename,
      contentType,
      ...(contentId !== undefined && { contentId }),
    });
  }
  return { message: { ...message, attachments: pinned }, digests };
}
