import { untilAborted } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import { DeliveryLine, type Place } from './delivery-line.ts';
import type { Delivered, DeliverOptions } from './session-contract.ts';
import { cancellation, describeDelivery, type FailureContext } from './session-failure.ts';
import type { SmtpChannel } from './smtp-channel.ts';
import { SessionDropped, Transaction, type TransactionContext } from './transaction.ts';

/** A server that takes longer over a message makes the next one wait for nothing if that cannot go elsewhere. */
const promptMs = 200;

/**
 * What becomes of an envelope that leaves with the message before it. `heard`: it was answered. `unheard`: the server has no
 * answer to it, or one to something else, against RFC 2920. `ended`: the session ended, as it might have without.
 */
export type EarlyEnvelope = 'heard' | 'unheard' | 'ended';

/** What of a session a transaction needs to know. */
type SessionState = Pick<TransactionContext, 'extensions' | 'pipelining' | 'timeouts' | 'lmtp' | 'scrub'>;

/** The messages sent over one session, each in its turn. */
export class Deliveries {
  readonly #channel: SmtpChannel;
  readonly #line = new DeliveryLine();
  /** A transaction was broken off, so the next one begins with RSET. */
  #needsReset = false;
  /** How long the server took for its answer to the last message, in milliseconds. */
  #confirmMs = Number.POSITIVE_INFINITY;
  /** What became of the last envelope that came with the message before it. */
  early: EarlyEnvelope | undefined;
  /** Whether the server takes no more messages in this session, as it said. */
  isUsedUp = false;

  constructor(channel: SmtpChannel) {
    this.#channel = channel;
  }

  /** Somebody went away whose envelope the server has heard, so that nothing can follow. */
  get broken(): boolean {
    return this.#line.broken;
  }

  /** Whether the server answers soon enough that a message may wait for the answer to the one before. */
  get prompt(): boolean {
    return this.#confirmMs <= promptMs;
  }

  /**
   * Sends one message; its envelope at once, and the rest when the message before has its answer.
   *
   * @throws MailError
   */
  async run(
    message: ComposedMessage,
    options: DeliverOptions,
    state: SessionState,
    context: FailureContext,
  ): Promise<Delivered> {
    const place = this.#line.join();
    const ahead = place.waiting;
    // Whatever the server says to the message before, nothing is left of that afterwards.
    const reset = this.#needsReset && !ahead;
    // The next message leaves before the news of this one gets about, which is work that need not hold it up.
    const onAnswered = (): void => place.leave();
    const transaction = new Transaction(
      { ...state, channel: this.#channel, reset, onAnswered },
      message,
      options,
    );
    const abort = (): unknown => {
      if (!place.waiting) return this.#channel.abort();
      // The connection is the other message's as long as that has no answer.
      place.withdraw();
      return cancellation('envelope', context);
    };
    const deliver = () => (ahead ? this.#follow(transaction, place, options.signal) : transaction.run());
    try {
      const delivered = await untilAborted(
        options.signal,
        deliver,
        abort,
        () => transaction.phase === 'confirm',
      );
      this.#needsReset = false;
      this.#confirmMs = transaction.confirmMs;
      // With LMTP some have it, and for others the session was ended.
      if (!transaction.canContinue) this.#channel.fail(new Error('closed'));
      return delivered;
    } catch (cause) {
      this.#needsReset = true;
      this.isUsedUp ||= transaction.isUsedUp;
      if (!place.waiting && !transaction.canContinue) this.#channel.fail(new Error('closed'));
      throw transaction.withRecipients(describeDelivery(cause, transaction.phase, context, this.#channel));
    } finally {
      place.leave();
    }
  }

  /** Says the envelope behind a message that has no answer yet, and goes on when that is there. */
  async #follow(transaction: Transaction, place: Place, signal: AbortSignal | undefined): Promise<Delivered> {
    transaction.announce();
    try {
      await place.turn();
      if (this.#channel.failed) throw new SessionDropped('lost with the message before');
    } catch (error) {
      // A server that has been silent since may take the envelope for a part of the message.
      if (this.#channel.failed ? this.#channel.timedOut : !signal?.aborted) this.early = 'unheard';
      throw error;
    }
    try {
      const delivered = await transaction.run();
      this.early = 'heard';
      return delivered;
    } catch (error) {
      if (transaction.isBelieved || signal?.aborted) throw error;
      this.early = this.#channel.failed && !this.#channel.timedOut ? 'ended' : 'unheard';
      throw new SessionDropped('no answer to an envelope that came early');
    }
  }
}
