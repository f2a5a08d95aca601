import { type Attachment, type AttachmentInput, attachmentSchema, parseWith } from '@flowpost/core';
import { type AttachmentPolicy, resolveAttachmentPolicy } from './attachment-policy.ts';
import type { StreamedContent } from './attachment-source.ts';
import { assertNotGivenUp } from './given-up.ts';
import { releaseAll, resolveAttachments } from './resolve-attachments.ts';

/** An attachment whose content, name and type are known. */
export interface OpenedAttachment {
  readonly filename: string;
  readonly contentType: string;
  /** Present for inline parts. */
  readonly contentId?: string;
  /** Size of the content in bytes, before encoding. */
  readonly sizeBytes: number;
  /** The content, in chunks; may be read once. */
  read(): AsyncIterable<Uint8Array>;
}

/** Attachments that are open; disposing it closes their files and downloads. */
export interface OpenedAttachments extends Disposable {
  readonly attachments: readonly OpenedAttachment[];
}

async function* whole(content: Buffer): AsyncGenerator<Uint8Array> {
  yield content;
}

async function* chunksOf(
  content: StreamedContent,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of content.open()) {
    assertNotGivenUp(signal, 'attachments were being read');
    yield chunk;
  }
}

const sizeOf = (content: Buffer | StreamedContent): number =>
  Buffer.isBuffer(content) ? content.length : content.size;

/**
 * Opens attachments for a transport that does not send them as MIME. Those of kind `mime` are checked like the others and
 * left out: their nodes are MIME and nothing else. What is open is given up when it is disposed.
 *
 * @throws MailError of category `attachment`, naming the attachment by position and name.
 */
export async function openAttachments(
  input: readonly AttachmentInput[],
  options: {
    readonly attachments?: AttachmentPolicy | undefined;
    readonly signal?: AbortSignal | undefined;
    /** They may be read a good while later, so what comes from a URL is fetched as a whole. Default false. */
    readonly mayWait?: boolean;
    /** Which one the first of them is in its message, for errors. Default 1. */
    readonly firstPosition?: number;
  } = {},
): Promise<OpenedAttachments> {
  const parsed: Attachment[] = parseWith(attachmentSchema.array(), input);
  const { signal, mayWait = false, firstPosition } = options;
  const policy = resolveAttachmentPolicy(options.attachments);
  const found = await resolveAttachments(parsed, policy, { signal, whole: mayWait, firstPosition });
  const attachments = found.flatMap((one) =>
    'content' in one
      ? [
          {
            filename: one.filename,
            contentType: one.contentType,
            ...(one.contentId !== undefined && { contentId: one.contentId }),
            sizeBytes: sizeOf(one.content),
            read: () => (Buffer.isBuffer(one.content) ? whole(one.content) : chunksOf(one.content, signal)),
          },
        ]
      : [],
  );
  return { attachments, [Symbol.dispose]: () => releaseAll(found) };
}
