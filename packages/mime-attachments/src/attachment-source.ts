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

/** What a kind gets to know besides the attachment. */
export interface AttachmentContext {
  readonly policy: ResolvedAttachmentPolicy;
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

/** @throws MailError `ATTACHMENT_TOO_LARGE` when the size is over the policy's limit. */
export function checkSize(size: number, context: AttachmentContext): void {
  const { maxBytes } = context.policy;
  if (size <= maxBytes) return;
  throw attachmentError(
    'ATTACHMENT_TOO_LARGE',
    `it has ${size} bytes, and ${maxBytes} are allowed.`,
    context,
    {
      details: { sizeBytes: size, limitBytes: maxBytes },
    },
  );
}
