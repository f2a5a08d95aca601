import { type AttachmentInput, linkAbort, type MailError, toMailError } from '@flowpost/core';
import {
  type AttachmentPolicy,
  atMost,
  type OpenedAttachment,
  openAttachments,
} from '@flowpost/mime-attachments';

/** How large they may be all together, in bytes: about what the usual providers take in one message. */
const mostBytes = 25 * 1024 * 1024;

/** How many URLs are fetched at once. */
const fetchedAtOnce = 20;

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

/** What an attachment is beside its content, once it is open. */
export const pinnedAs = ({
  filename,
  contentType,
  contentId,
}: OpenedAttachment): Omit<PinnedAttachment, 'content'> => ({
  ...{ kind: 'bytes', filename, contentType },
  ...(contentId !== undefined && { contentId }),
});

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
  const { kinds = ['file', 'url'], leaves = () => false, hasRoom = () => true } = options;
  const { onRead, onLarge } = options;
  const pinned = [...attachments];
  let room = mostBytes;
  for (const one of attachments) if (one.kind === 'bytes') room -= one.content.byteLength;
  const stop = new AbortController();
  const unlink = linkAbort(options.signal, stop);
  const pin = async (attachment: AttachmentInput, place: number): Promise<void> => {
    try {
      using opened = await openAttachments([attachment], {
        ...{ attachments: options.attachments, signal: stop.signal, firstPosition: place + 1 },
      });
      const [one] = opened.attachments;
      if (!one) return;
      const { sizeBytes } = one;
      if (sizeBytes > room || !hasRoom(sizeBytes)) return await onLarge?.(one, place);
      room -= sizeBytes;
      onRead?.(sizeBytes);
      pinned[place] = { ...pinnedAs(one), content: Buffer.concat(await Array.fromAsync(one.read())) };
    } catch (error) {
      if (!leaves(toMailError(error))) throw error;
    }
  };
  const of = (kind: 'file' | 'url') =>
    kinds.includes(kind)
      ? [...attachments.entries()].filter(([, attachment]) => attachment.kind === kind)
      : [];
  // Files one after another, so that many large ones are not all held. Pages beside each other: one that keeps waiting keeps few others.
  let fetching: Promise<void>[] = [];
  try {
    for (const [place, file] of of('file')) await pin(file, place);
    const inTurn = atMost(fetchedAtOnce);
    fetching = of('url').map(([place, url]) => inTurn(() => pin(url, place)));
    await Promise.all(fetching);
  } finally {
    stop.abort();
    unlink();
    await Promise.allSettled(fetching);
  }
  return pinned.every((one, place) => one === attachments[place]) ? attachments : pinned;
}
