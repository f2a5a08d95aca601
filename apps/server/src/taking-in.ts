import { hash } from 'node:crypto';
import { type Attachment, type AttachmentInput, isMailError, parseMessage } from '@flowpost/core';
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

const isElsewhere = ({ kind }: Attachment): boolean => kind === 'file' || kind === 'url';

/** What is the same for all who ask the same under one idempotency key. */
const keyOf = (
  attachments: readonly Attachment[],
  { apiKey, idempotencyKey }: RunRequest,
): string | undefined =>
  idempotencyKey === undefined || !attachments.some(isElsewhere)
    ? undefined
    : hash('sha256', JSON.stringify([apiKey, idempotencyKey, attachments]));

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

  /**
   * Reads what a request attaches.
   *
   * @param request of which nothing is known yet. Until it is in the database, or that has failed, this is to be held: whoever asks the same
   *   meanwhile might not find any more what is attached.
   */
  begin(
    prepared: PreparedRun,
    request: RunRequest,
  ): Disposable & { readonly prepared: Promise<PreparedRun> } {
    const { attachments: given, ...message } = prepared.request.message;
    const key = keyOf(given, request);
    const twin = key === undefined ? undefined : this.#reading.get(key);
    const reading = twin ? this.#shared(twin, given, request.takeRoom) : this.#pin(given, request.takeRoom);
    if (key !== undefined && !twin) this.#reading.set(key, reading);
    const taken = reading.then((attachments): PreparedRun => {
      if (attachments === given) return prepared;
      const whole = parseMessage({ ...message, attachments });
      return { ...prepared, request: { ...prepared.request, message: whole } };
    });
    const end = (): void => {
      if (key !== undefined && !twin) this.#reading.delete(key);
    };
    return { prepared: taken, [Symbol.dispose]: end };
  }

  /** What a twin reads. That the one had no room, or nobody waited for it any more, says nothing of the other. */
  async #shared(
    twin: Promise<AttachmentInput[]>,
    given: Attachment[],
    takeRoom: (bytes: number) => void,
  ): Promise<AttachmentInput[]> {
    try {
      const attachments = await twin;
      takeRoom(inBase64(bytesOf(attachments)));
      return attachments;
    } catch (error) {
      if (isMailError(error)) throw error;
      return this.#pin(given, takeRoom);
    }
  }

  /** @throws MailError of category `attachment`; what `takeRoom` throws. */
  async #pin(given: Attachment[], takeRoom: (bytes: number) => void): Promise<AttachmentInput[]> {
    if (!given.some(isElsewhere)) return given;
    const signal = AbortSignal.timeout(fetchMs);
    return pinAttachments(given, {
      ...{ attachments: this.#policy, signal },
      onRead: (sizeBytes) => takeRoom(inBase64(sizeBytes)),
      leaves: ({ retryable }) => retryable || signal.aborted,
    });
  }
}
