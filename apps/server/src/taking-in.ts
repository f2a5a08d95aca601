import { hash } from 'node:crypto';
import { type Attachment, type AttachmentInput, parseMessage } from '@flowpost/core';
import type { AttachmentPolicy } from '@flowpost/mime-attachments';
import type { PreparedRun } from '@flowpost/node-adapter';
import { pinAttachments } from '@flowpost/transport';
import type { RunRequest } from './runs.ts';

/** How long whoever puts something into the outbox waits for URLs that are attached, in milliseconds. */
const fetchMs = 5_000;

/** Room for so many bytes, as much as in a request that has them in base64. */
const inBase64 = (bytes: number): number => Math.ceil((bytes * 4) / 3);

const bytesOf = (attachments: readonly AttachmentInput[]): number =>
  attachments.reduce((sum, one) => sum + (one.kind === 'bytes' ? one.content.byteLength : 0), 0);

/**
 * What goes into the outbox is sent by whatever server, hours later perhaps, with its attachments as they were when it was taken in. What
 * cannot be had at the moment may be had by then, and what is large stays where it is.
 */
export class TakingIn {
  readonly #policy: AttachmentPolicy | undefined;
  /** What is being read for an idempotency key: whoever asks the same meanwhile gets the same, and the same failure. */
  readonly #reading = new Map<string, Promise<AttachmentInput[]>>();

  /** @param policy what attachments may be read. */
  constructor(policy: AttachmentPolicy | undefined) {
    this.#policy = policy;
  }

  /** @throws MailError of category `attachment`; what `takeRoom` of the request throws. */
  async of(prepared: PreparedRun, request: RunRequest): Promise<PreparedRun> {
    const { attachments: given, ...message } = prepared.request.message;
    const attachments = await this.#read(given, request);
    if (attachments === given) return prepared;
    return {
      ...prepared,
      request: { ...prepared.request, message: parseMessage({ ...message, attachments }) },
    };
  }

  async #read(
    given: Attachment[],
    { apiKey, idempotencyKey, takeRoom }: RunRequest,
  ): Promise<AttachmentInput[]> {
    if (!given.some(({ kind }) => kind === 'file' || kind === 'url')) return given;
    if (idempotencyKey === undefined) return this.#pin(given, takeRoom);
    const key = hash('sha256', JSON.stringify([apiKey, idempotencyKey, given]));
    const twin = this.#reading.get(key);
    if (twin) {
      const attachments = await twin;
      takeRoom(inBase64(bytesOf(attachments)));
      return attachments;
    }
    const reading = this.#pin(given, takeRoom);
    this.#reading.set(key, reading);
    try {
      return await reading;
    } finally {
      this.#reading.delete(key);
    }
  }

  #pin(given: Attachment[], takeRoom: (bytes: number) => void): Promise<AttachmentInput[]> {
    const signal = AbortSignal.timeout(fetchMs);
    return pinAttachments(given, {
      ...{ attachments: this.#policy, signal },
      onRead: (sizeBytes) => takeRoom(inBase64(sizeBytes)),
      leaves: ({ retryable }) => retryable || signal.aborted,
    });
  }
}
