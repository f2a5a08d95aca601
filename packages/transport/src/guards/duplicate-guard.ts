import {
  addressKey,
  type Clock,
  type DuplicateStore,
  type EmailMessageInput,
  isMailError,
  linkAbort,
  MailError,
  type MailSender,
  type OutgoingMessage,
  parseMessage,
  type Reservation,
  regardless,
  type SendOptions,
  type SendReceipt,
  systemClock,
  untilAborted,
} from '@flowpost/core';
import type { AttachmentPolicy } from '@flowpost/mime-attachments';
import { cancelledBefore, withinTime } from '../abortable.ts';
import { asGiven } from './as-given.ts';
import { ContentDigest, contentHash } from './content-hash.ts';
import { pinAttachments, pinnedAs } from './pinned-attachments.ts';

/** What counts as the same message, how long it is remembered, and where. */
export interface DuplicateGuardOptions {
  readonly store: DuplicateStore;
  /** Names the thing that is sent once, such as a node and its settings. Default: the message's content. */
  readonly key?: string | undefined;
  /** Who sends over what: the same content in another scope is another thing. */
  readonly scope?: string | undefined;
  /** How long a send is remembered, in milliseconds. Default an hour. */
  readonly windowMs?: number | undefined;
  /** How long to wait for a twin that is being sent elsewhere, in milliseconds. Default 60,000. */
  readonly waitMs?: number | undefined;
  /** What attachments may be read: their content is part of what is compared. */
  readonly attachments?: AttachmentPolicy | undefined;
  readonly clock?: Clock | undefined;
}

const pollMs = 250;

/** What is being sent from here, by store and key: a twin gets its outcome as soon as there is one, whoever wraps it. */
const sendingByStore = new WeakMap<DuplicateStore, Map<string, Promise<SendReceipt>>>();

function sendingOf(store: DuplicateStore): Map<string, Promise<SendReceipt>> {
  const sending = sendingByStore.get(store) ?? new Map<string, Promise<SendReceipt>>();
  sendingByStore.set(store, sending);
  return sending;
}

/** Without knowing whether it was sent before nothing is sent; so it is safe to try again. */
function notReserved(thrown: unknown): never {
  if (isMailError(thrown)) throw thrown;
  throw new MailError('STORAGE_UNAVAILABLE', 'What was sent before cannot be looked up.', {
    retryable: true,
    hint: 'The store of the duplicate guard failed. Nothing was sent; try again later.',
    cause: thrown,
  });
}

/** Who has given up waits this long for a store, in milliseconds. */
const graceMs = 2_000;

/**
 * Tells a store how a send ended. That it could not be told is no news beside that; a reservation stands until its window has passed.
 */
async function tell(signal: AbortSignal | undefined, call: () => unknown): Promise<void> {
  const late = signal && new AbortController();
  const unlink = late && linkAbort(signal, late, graceMs);
  try {
    await untilAborted(late?.signal, call);
  } catch {
    // As said.
  } finally {
    unlink?.();
  }
}

class DuplicateGuard implements MailSender {
  readonly #sender: MailSender;
  readonly #options: DuplicateGuardOptions;
  readonly #sending: Map<string, Promise<SendReceipt>>;

  constructor(sender: MailSender, options: DuplicateGuardOptions) {
    this.#sender = sender;
    this.#options = options;
    this.#sending = sendingOf(options.store);
  }

  async send(given: OutgoingMessage, sendOptions: SendOptions = {}): Promise<SendReceipt> {
    const input = asGiven(given);
    const options = withinTime(sendOptions);
    const { windowMs = 3_600_000, waitMs = 60_000, clock = systemClock, scope = '' } = this.#options;
    const { signal } = options;
    let message = input;
    let hash: string;
    const { onlyTo } = options;
    try {
      /** What is too large to be kept, as it would be compared if it were not, by its place. */
      const large = new Map<number, unknown>();
      if (input.attachments) {
        const attachments = await pinAttachments(input.attachments, {
          ...{ attachments: this.#options.attachments, signal },
          onLarge: async (one, place) => {
            large.set(place, { ...pinnedAs(one), content: await ContentDigest.of(one.read()) });
          },
        });
        if (attachments !== input.attachments) message = { ...input, attachments };
      }
      const compared = message.attachments?.map((one, place) => large.get(place) ?? one);
      const beside = [scope];
      // For others of its recipients it is another message, whatever its key.
      if (onlyTo) beside.push(this.#options.key ?? '', ...new Set(onlyTo.map(addressKey).sort()));
      hash = contentHash(
        large.size > 0 ? ({ ...message, attachments: compared } as OutgoingMessage) : message,
        beside,
      );
    } catch (error) {
      if (isMailError(error)) throw error;
      // From plain JavaScript anything may come; what is wrong with it is said in the usual way.
      parseMessage(input as EmailMessageInput);
      throw error;
    }
    const key = onlyTo ? hash : (this.#options.key ?? hash);
    for (let waited = 0; ; ) {
      const reservation = await this.#reserve(key, hash, windowMs, signal);
      if (reservation.state === 'reserved') {
        const sending = this.#sendAndRemember(key, reservation.token, message, options);
        this.#sending.set(key, sending);
        try {
          return await sending;
        } finally {
          // Another one may have reserved it since.
          if (this.#sending.get(key) === sending) this.#sending.delete(key);
        }
      }
      if (reservation.state === 'sent') return { ...reservation.receipt, status: 'duplicate' };
      if (reservation.state === 'conflict') {
        throw new MailError('DUPLICATE_CONFLICT', 'This key was used for a message with other content.');
      }
      if (reservation.state === 'in-doubt') {
        const message = 'The same was sent before, and whether it was delivered is in doubt.';
        throw new MailError('DUPLICATE_IN_DOUBT', message, {
          ...{ phase: 'confirm', details: { earlier: reservation.error.details } },
        });
      }
      const twin = this.#sending.get(key);
      if (twin) {
        const outcome = twin.then(
          () => undefined,
          (error: unknown) => error,
        );
        const failed = await untilAborted(signal, () => outcome, cancelledBefore);
        // In doubt for one is in doubt for both; after any other failure the key is free again.
        if (isMailError(failed) && failed.inDoubt) throw failed;
        continue;
      }
      if (waited >= waitMs) {
        const message = 'The same message is being sent, or its outcome is in doubt.';
        throw new MailError('DUPLICATE_PENDING', message, { retryable: true });
      }
      await untilAborted(signal, () => clock.sleep(pollMs), cancelledBefore);
      waited += pollMs;
    }
  }

  async #sendAndRemember(
    key: string,
    token: string,
    message: OutgoingMessage,
    options: SendOptions,
  ): Promise<SendReceipt> {
    const { store } = this.#options;
    let receipt: SendReceipt;
    try {
      receipt = await this.#sender.send(message, options);
    } catch (error) {
      // Doubt keeps the reservation: another one might deliver it twice.
      const isInDoubt = isMailError(error) && error.inDoubt;
      await tell(options.signal, () =>
        isInDoubt ? store.keepDoubt?.(key, token, error.toJSON()) : store.release(key, token),
      );
      throw error;
    }
    await tell(options.signal, () => store.remember(key, token, receipt));
    return receipt;
  }

  /** @throws MailError when the store fails, or the caller gives up first. */
  async #reserve(
    key: string,
    hash: string,
    windowMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Reservation> {
    const { store } = this.#options;
    let reserving: Promise<Reservation> | undefined;
    const reserve = (): Promise<Reservation> => {
      reserving = store.reserve(key, hash, windowMs);
      return reserving;
    };
    try {
      return await untilAborted(signal, reserve, cancelledBefore);
    } catch (error) {
      // One that is made all the same would keep others from sending.
      regardless(async () => {
        const late = await reserving;
        if (late?.state === 'reserved') await store.release(key, late.token);
      });
      return notReserved(error);
    }
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#sender[Symbol.asyncDispose]();
  }
}

/**
 * A sender that sends the same thing once within a window: the earlier receipt comes back with the status `duplicate`,
 * and one that is being sent right now is waited for. A failure is forgotten, doubt is not.
 *
 * The sender it returns throws `DUPLICATE_CONFLICT` for a key that was used for other content, `DUPLICATE_IN_DOUBT` for what is in
 * doubt since an earlier send, `DUPLICATE_PENDING` when a twin elsewhere has no outcome in time.
 */
export function withDuplicateGuard(sender: MailSender, options: DuplicateGuardOptions): MailSender {
  return new DuplicateGuard(sender, options);
}
