import { type ErrorCode, type ErrorDetails, MailError } from '@flowpost/core';
import type { ResolvedAttachmentPolicy } from './attachment-policy.ts';

/** Content too large to hold in memory: opened when its turn comes. */
export interface StreamedContent {
  /** Its exact size; reading more or less is an error. */
  readonly size: number;
  /** Its first bytes, where they are at hand because it can be opened only once. */
  readonly sample?: Uint8Array;
  open(): AsyncIterable<Uint8Array>;
  /** Gives up what it holds, a temporary file for instance. */
  release?(): unknown;
}

/** What a kind makes of an attachment: its content, and what the source calls it. */
export interface AttachmentSource {
  readonly content: Buffer | StreamedContent;
  /** Used when the attachment has no name of its own. */
  readonly filename?: string;
  /** What the source says it is. Used when the attachment has no type of its own, before what its name tells. */
  readonly contentType?: string;
  /** What it is when neither source nor name tell. */
  readonly fallbackType?: string;
}

/** How much the attachments of a message have together, as far as is known. */
export class TotalSize {
  readonly #sizes = new Map<number, number>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** One of them has at least so many bytes. */
  note(position: number, bytes: number): void {
    const before = this.#sizes.get(position) ?? 0;
    if (bytes <= before) return;
    this.#sizes.set(position, bytes);
    this.#bytes += bytes - before;
  }
}

/** What a kind gets to know besides the attachment. */
export interface AttachmentContext {
  readonly policy: ResolvedAttachmentPolicy;
  /** Of all attachments of the message. */
  readonly total: TotalSize;
  /** Which attachment it is, counted from 1, and its name if it has one: for errors. */
  readonly position: number;
  readonly name: string | undefined;
  /** Aborted when the caller cancels, or when another attachment has failed. */
  readonly signal?: AbortSignal | undefined;
  /** Whether the content has to be here as a whole: because it will be opened more than once, or much later. */
  readonly whole?: boolean;
}

/** An error about one attachment, naming it by position and name. */
export function attachmentError(
  code: ErrorCode,
  message: string,
  { position, name }: AttachmentContext,
  extra: {
    readonly details?: ErrorDetails;
    readonly cause?: unknown;
    /** Whether it may be had later. Default no. */
    readonly retryable?: boolean;
    /** What to do, where the code alone does not say it. */
    readonly hint?: string | undefined;
  } = {},
): MailError {
  const label = name === undefined ? `Attachment ${position}` : `Attachment ${position} (${name})`;
  return new MailError(code, `${label}: ${message}`, {
    phase: 'attachments',
    details: { position, ...(name !== undefined && { name }), ...extra.details },
    cause: extra.cause,
    retryable: extra.retryable,
    hint: extra.hint,
  });
}

/**
 * Notes that an attachment has at least so many bytes.
 *
 * @throws MailError `ATTACHMENT_TOO_LARGE` when it is over the policy's limit, `MESSAGE_TOO_LARGE` when all together are.
 */
export function checkSize(size: number, context: AttachmentContext): void {
  const { policy, total, position } = context;
  const { maxBytes, maxTotalBytes } = policy;
  if (size > maxBytes) {
    throw attachmentError(
      'ATTACHMENT_TOO_LARGE',
      `it has ${size} bytes, and ${maxBytes} are allowed.`,
      context,
      { details: { sizeBytes: size, limitBytes: maxBytes } },
    );
  }
  total.note(position, size);
  if (total.bytes <= maxTotalBytes) return;
  throw attachmentError(
    'MESSAGE_TOO_LARGE',
    `with it the message has ${total.bytes} bytes or more, and ${maxTotalBytes} are allowed.`,
    context,
    { details: { sizeBytes: total.bytes, limitBytes: maxTotalBytes } },
  );
}
