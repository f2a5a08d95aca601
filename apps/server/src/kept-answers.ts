import { createHash } from 'node:crypto';
import {
  EncryptedText,
  isMailError,
  type Logger,
  MailError,
  type SecretBox,
  toMailError,
} from '@flowpost/core';
import type { Known } from './outbox/delivery-reader.ts';
import type { DeliveryStore } from './outbox/delivery-store.ts';
import { ended } from './outbox/ended.ts';
import type { RunAnswer, RunRequest } from './runs.ts';

export interface KeptAnswersOptions {
  readonly box: SecretBox;
  readonly deliveries: Pick<DeliveryStore, 'findByKey' | 'keepAnswer'>;
  readonly logger: Logger;
}

/** What makes two requests with one key the same. */
const bodyHash = ({ type, settings, flow, nodeId }: RunRequest): string =>
  createHash('sha256')
    .update(JSON.stringify([type, settings, flow, nodeId]))
    .digest('base64url');

/** What was asked for under an Idempotency-Key, and what was answered; both sealed. */
export class KeptAnswers {
  readonly #options: KeptAnswersOptions;

  constructor(options: KeptAnswersOptions) {
    this.#options = options;
  }

  /**
   * What was asked for under the key of a request before, and what was answered.
   *
   * @throws MailError `IDEMPOTENCY_CONFLICT` when it was something else.
   */
  async before(request: RunRequest): Promise<Known | undefined> {
    const { apiKey, idempotencyKey } = request;
    if (idempotencyKey === undefined) return undefined;
    const known = await this.#options.deliveries.findByKey(apiKey, idempotencyKey);
    if (known) await this.assertSame(known, request);
    return known;
  }

  /** Sealed: whoever has the rest of the request could try out what its password was. */
  async sealedHash(request: RunRequest): Promise<string> {
    return (await this.#options.box.encrypt(bodyHash(request))).compact;
  }

  /** @throws MailError `IDEMPOTENCY_CONFLICT`. */
  async assertSame({ bodyHash: sealed }: Known, request: RunRequest): Promise<void> {
    // Earlier versions did not seal it; no hash has a dot.
    const hash = sealed.includes('.') ? await this.#unsealed(sealed) : sealed;
    // What cannot be compared is taken for the same: nothing is sent for it.
    if (hash === undefined || hash === bodyHash(request)) return;
    throw new MailError('IDEMPOTENCY_CONFLICT', 'This Idempotency-Key was used for another request.');
  }

  async keep(id: string, answer: RunAnswer): Promise<void> {
    // It was left to whoever is asked next.
    if ('error' in answer.outcome && answer.outcome.error.code === ended.code) return;
    try {
      const { compact } = await this.#options.box.encrypt(JSON.stringify(answer));
      await this.#options.deliveries.keepAnswer(id, compact);
    } catch (error) {
      // What happened has happened. Whoever asks again is told from what is known of the delivery.
      const { code } = toMailError(error);
      this.#options.logger.error('an answer cannot be kept for whoever asks again', { delivery: id, code });
    }
  }

  /** An answer that was kept; undefined when there is none. */
  async open(answer: string | null | undefined): Promise<RunAnswer | undefined> {
    const opened = typeof answer === 'string' ? await this.#unsealed(answer) : undefined;
    return opened === undefined ? undefined : JSON.parse(opened);
  }

  /** What was sealed; undefined when the key is gone: then what is known has to do. */
  async #unsealed(text: string): Promise<string | undefined> {
    try {
      return await this.#options.box.decrypt(new EncryptedText(text));
    } catch (error) {
      if (isMailError(error) && error.code === 'SECRET_KEY_MISSING') return undefined;
      throw error;
    }
  }
}
