import { type AttachmentInput, type MailError, toMailError } from '@flowpost/core';
import { type AttachmentPolicy, type OpenedAttachment, openAttachments } from '@flowpost/mime-attachments';

/** How large they may be all together, in bytes: about what the usual providers take in one message. */
const mostBytes = 25 * 1024 * 1024;

/** What is read, and how much of it is kept. */
export interface PinOptions {
  readonly attachments?: AttachmentPolicy | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Which are read. Default both. */
  readonly kinds?: readonly ('file' | 'url')[] | undefined;
  /** Whether there is room for so many bytes more; where there is none, an attachment is too large. Default yes. */
  readonly hasRoom?: ((sizeBytes: number) => boolean) | undefined;
  /** Told how large one is before it is read, in bytes; throws where there is no room for it. */
  readonly onRead?: ((sizeBytes: number) => void) | undefined;
  /** Told of one that is too large, by its place in the message, while it is open. */
  readonly onLarge?: ((one: OpenedAttachment, place: number) => Promise<void>) | undefined;
  /** Whether one that failed stays where it is. Default: none does, and the failure is thrown. */
  readonly leaves?: ((error: MailError) => boolean) | undefined;
}

type PinnedAttachment = Extract<AttachmentInput, { kind: 'bytes' }>;

/** Reads one that is open, unless it is too large. */
async function read(
  one: OpenedAttachment,
  place: number,
  room: number,
  { onRead, onLarge, hasRoom = () => true }: PinOptions,
): Promise<PinnedAttachment | undefined> {
  if (one.sizeBytes > room || !hasRoom(one.sizeBytes)) {
    await onLarge?.(one, place);
    return undefined;
  }
  onRead?.(one.sizeBytes);
  const { filename, contentType, contentId } = one;
  const content = Buffer.concat(await Array.fromAsync(one.read()));
  return { kind: 'bytes', content, filename, contentType, ...(contentId !== undefined && { contentId }) };
}

/**
 * Attachments as they are now: those of files and URLs are read and become bytes, as long as they have no more than 25 MiB together.
 * One that is too large stays where it is.
 *
 * @returns the same list where nothing was to be read.
 * @throws MailError of category `attachment`.
 */
export async function pinAttachments(
  attachments: AttachmentInput[],
  options: PinOptions = {},
): Promise<AttachmentInput[]> {
  const { kinds = ['file', 'url'], leaves = () => false } = options;
  const pinned = [...attachments];
  let held = 0;
  let isPinned = false;
  // Files first, since they keep nobody waiting; and one after another, so that many large ones are not all held.
  for (const kind of (['file', 'url'] as const).filter((one) => kinds.includes(one))) {
    for (const [place, attachment] of attachments.entries()) {
      if (attachment.kind !== kind) continue;
      try {
        using opened = await openAttachments([attachment], options);
        const [one] = opened.attachments;
        const whole = one && (await read(one, place, mostBytes - held, options));
        if (!whole) continue;
        held += whole.content.length;
        pinned[place] = whole;
        isPinned = true;
      } catch (error) {
        if (!leaves(toMailError(error))) throw error;
      }
    }
  }
  return isPinned ? pinned : attachments;
}
