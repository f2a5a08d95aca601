import { type Attachment, headerTextProblem } from '@flowpost/core';
import { detectMimeType } from 'nodemailer/lib/mime-funcs/mime-types';
import type { ResolvedAttachmentPolicy } from './attachment-policy.ts';
import {
  type AttachmentContext,
  type AttachmentSource,
  attachmentError,
  checkSize,
  type StreamedContent,
} from './attachment-source.ts';
import { readBase64 } from './kinds/base64.ts';
import { readBytes } from './kinds/bytes.ts';
import { readCustom } from './kinds/custom.ts';
import { readFile } from './kinds/file.ts';
import { readText } from './kinds/text.ts';

const octetStream = 'application/octet-stream';

/** An attachment whose content, name and type are known. */
export interface ResolvedAttachment {
  readonly content: Buffer | StreamedContent;
  readonly filename: string;
  readonly contentType: string;
  /** Present for inline parts. */
  readonly contentId?: string;
}

function readSource(
  attachment: Attachment,
  context: AttachmentContext,
): AttachmentSource | Promise<AttachmentSource> {
  switch (attachment.kind) {
    case 'text':
      return readText(attachment);
    case 'base64':
      return readBase64(attachment, context);
    case 'bytes':
      return readBytes(attachment);
    case 'custom':
      return readCustom(attachment);
    case 'file':
      return readFile(attachment, context);
    default:
      throw attachmentError(
        'ATTACHMENT_KIND_UNAVAILABLE',
        `attachments of kind ${attachment.kind} are not available in this version.`,
        context,
        { details: { kind: attachment.kind } },
      );
  }
}

/** Text is written in UTF-8, so a textual type without a charset gets this one. */
function withCharset(contentType: string, attachment: Attachment): string {
  const isText =
    'content' in attachment && typeof attachment.content === 'string' && attachment.kind !== 'base64';
  const wantsCharset = isText && /^text\//i.test(contentType) && !/;\s*charset=/i.test(contentType);
  return wantsCharset ? `${contentType}; charset=utf-8` : contentType;
}

/** The media type its name's extension stands for, if it stands for any. */
function typeByName(filename: string): string | undefined {
  const type = /\.[^.]+$/.test(filename) ? detectMimeType(filename) : octetStream;
  return type === octetStream ? undefined : type;
}

function finish(
  attachment: Attachment,
  source: AttachmentSource,
  context: AttachmentContext,
): ResolvedAttachment {
  const { content } = source;
  checkSize(Buffer.isBuffer(content) ? content.length : content.size, context);
  const filename = attachment.filename ?? source.filename ?? 'attachment.bin';
  const problem = headerTextProblem(filename);
  if (problem) throw attachmentError('HEADER_INVALID', `its file name cannot be used: ${problem}.`, context);
  const contentType = attachment.contentType ?? typeByName(filename) ?? source.contentType ?? octetStream;
  return {
    content,
    filename,
    contentType: withCharset(contentType, attachment),
    ...(attachment.contentId !== undefined && { contentId: attachment.contentId }),
  };
}

/**
 * Finds the content of every attachment. Stays synchronous as long as no attachment needs the file system,
 * because composing a message that is all in memory should cost no turn of the event loop.
 *
 * @throws MailError of category `attachment`, naming the attachment by position and name.
 */
export function resolveAttachments(
  attachments: readonly Attachment[],
  policy: ResolvedAttachmentPolicy,
): ResolvedAttachment[] | Promise<ResolvedAttachment[]> {
  const pending = attachments.map((attachment, index) => {
    const name = attachment.filename ?? ('path' in attachment ? attachment.path : undefined);
    const context = { policy, position: index + 1, name };
    try {
      const source = readSource(attachment, context);
      return source instanceof Promise
        ? source.then((found) => finish(attachment, found, context))
        : finish(attachment, source, context);
    } catch (error) {
      // Not thrown here, where it would leave the files already being read to themselves.
      return Promise.reject(error);
    }
  });
  return pending.every((one): one is ResolvedAttachment => !(one instanceof Promise))
    ? pending
    : Promise.all(pending);
}
