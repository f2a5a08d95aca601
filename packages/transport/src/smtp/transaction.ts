import { isMailError, type RejectedRecipient } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import {
  isRefusedForAll,
  isRefusedForNow,
  isUsedUp,
  parseReply,
  refusal,
  type SmtpReply,
} from '../diagnosis/reply-failure.ts';
import { type EnvelopeCommands, envelopeCommands } from './envelope-commands.ts';
import type { Extensions } from './extensions.ts';
import { EarlyAnswer, MessageWriter } from './message-writer.ts';
import { serverId } from './server-id.ts';
import type { Delivered, DeliverOptions } from './session-contract.ts';
import { ProtocolViolation, type SmtpChannel } from './smtp-channel.ts';

export interface TransactionContext {
  readonly channel: SmtpChannel;
  readonly extensions: Extensions;
  /** Whether commands may leave together. */
  readonly pipelining: boolean;
  readonly timeouts: { readonly commandMs: number; readonly dataMs: number; readonly confirmMs: number };
  /** LMTP (RFC 2033) answers the message once for each recipient. */
  readonly lmtp: boolean;
  /** A transaction was broken off before, so this one begins with RSET. */
  readonly reset: boolean;
  readonly scrub: (text: string) => string;
  /** Called as soon as the server has said all it has to say, before anybody hears of it. */
  readonly onAnswered: () => void;
}

/** A server that heard the envelope early has its answer ready. One that did not has none, and another session is better. */
const aheadMs = 10_000;

/** The session is not what it was; nothing of the new message has left. */
export class SessionDropped extends Error {}

const isPositive = ({ code }: SmtpReply): boolean => code >= 200 && code < 300;

/**
 * One message over an open session: MAIL, RCPT, DATA and the message (RFC 5321 section 3.3). With PIPELINING
 * (RFC 2920) everything before the message is one round trip, and the message another.
 */
export class Transaction {
  readonly #context: TransactionContext;
  readonly #message: ComposedMessage;
  readonly #options: DeliverOptions;
  readonly #writer: MessageWriter;
  readonly #accepted: string[] = [];
  readonly #rejected: RejectedRecipient[] = [];
  /** With LMTP, what the server has said of each so far. */
  readonly #confirmed: boolean[] = [];
  /** What was said while the message before had no answer. */
  #announced: EnvelopeCommands | undefined;
  /** Whether what the server said is about this message. */
  isBelieved = false;
  /** How long the server took to confirm the message, in milliseconds. */
  confirmMs = Number.POSITIVE_INFINITY;
  /** Whether the session can take another message after this one failed. */
  canContinue = false;
  /** Whether the server takes no more messages in it, as it said. */
  isUsedUp = false;

  constructor(context: TransactionContext, message: ComposedMessage, options: DeliverOptions) {
    this.#context = context;
    this.#message = message;
    this.#options = options;
    this.#writer = new MessageWriter(context.channel, context.timeouts.dataMs);
  }

  /** How far the message has got. */
  get phase(): MessageWriter['phase'] {
    return this.#writer.phase;
  }

  /** A doubt is about those only of whom the server has not said what becomes of them. And why it hung up may be one it refused. */
  withRecipients(failure: unknown): unknown {
    if (!isMailError(failure)) return failure;
    const isLost = failure.code === 'CONNECTION_LOST';
    if (!failure.inDoubt) return isLost ? failure.addDetails(this.#refusedInTurn) : failure;
    const delivered = this.#accepted.filter((_, index) => this.#confirmed[index] === true);
    return failure.addDetails({
      unconfirmed: this.#accepted.slice(this.#confirmed.length),
      ...(this.#rejected.length > 0 && { rejected: this.#rejected }),
      ...(delivered.length > 0 && { accepted: delivered }),
    });
  }

  /** Whether enough was said of the recipients for the message to be refused, whatever else would have come. */
  get #isRefused(): boolean {
    if (this.phase !== 'envelope' || this.#announced) return false;
    const needsAll = this.#options.onPartial !== 'accept';
    if (needsAll && this.#rejected.some((one) => !isRefusedForNow(one))) return true;
    // What is said of sender and client here is said of everybody.
    if (this.#accepted.length === 0 && this.#rejected.some(isRefusedForAll)) return true;
    return this.#rejected.length > 0 && this.#rejected.length === this.#message.envelope.to.length;
  }

  /** Says the envelope before it is its turn, to a server with PIPELINING; `run` goes on from there. */
  announce(): void {
    this.#announced = this.#sayEnvelope();
  }

  async run(): Promise<Delivered> {
    const { beforeData, beforeEnd } = this.#options;
    try {
      await this.#envelope();
      if (beforeData) await beforeData();
      const writing = this.#writer.write(this.#message.body, beforeEnd);
      if (writing) await writing;
      const handedOver = performance.now();
      const delivered = await this.#confirmation();
      this.confirmMs = performance.now() - handedOver;
      return delivered;
    } catch (error) {
      if (error instanceof EarlyAnswer) error.reply ??= await this.#readIfAny();
      // A server that refuses everybody and ends the session has said what it had to say.
      const hasEnded = isMailError(error) && error.details.replyCode === 421;
      if ((hasEnded || this.#context.channel.causedBy(error)) && this.#isRefused)
        this.#assertRecipients(false);
      throw error;
    }
  }

  #read(limitMs = this.#context.timeouts.commandMs): SmtpReply | Promise<SmtpReply> {
    return this.#context.channel.next(Math.min(limitMs, this.#context.timeouts.commandMs));
  }

  async #readIfAny(): Promise<SmtpReply | undefined> {
    try {
      return await this.#read();
    } catch {
      return undefined;
    }
  }

  /** Who must be sure of every recipient first cannot say DATA in the same breath. */
  get #atOnce(): boolean {
    return this.#context.pipelining && this.#options.onPartial === 'accept';
  }

  /** The commands before DATA. Those of a session with PIPELINING leave together. */
  #sayEnvelope(): EnvelopeCommands {
    const { channel, extensions, reset, pipelining } = this.#context;
    const said = envelopeCommands(this.#message, extensions, this.#options, reset);
    if (pipelining)
      channel.send([said.reset, said.mail, ...said.rcpts, this.#atOnce ? 'DATA\r\n' : ''].join(''));
    return said;
  }

  /** Up to the 354 that asks for the message. */
  async #envelope(): Promise<void> {
    const { channel, pipelining } = this.#context;
    const isAhead = this.#announced !== undefined;
    const { reset, mail, rcpts } = this.#announced ?? this.#sayEnvelope();
    const atOnce = this.#atOnce;
    const next = (command: string, limitMs?: number): SmtpReply | Promise<SmtpReply> => {
      if (!pipelining) channel.send(command);
      return this.#read(limitMs);
    };

    if (reset !== '' && !isPositive(await next(reset))) throw new SessionDropped('RSET was refused');
    const sender = await next(mail, isAhead ? aheadMs : undefined);
    this.#assertMeant(sender);
    if (sender.code === 0) throw new ProtocolViolation('no reply to MAIL');
    if (!isPositive(sender)) {
      this.isUsedUp = isUsedUp(sender);
      const isOpen = sender.code !== 421;
      this.canContinue = isOpen && (!pipelining || (await this.#skip(rcpts.length, atOnce)));
      throw refusal('sender', 'envelope', this.#clean(sender));
    }
    const { to } = this.#message.envelope;
    for (const [index, rcpt] of rcpts.entries()) this.#recipient(to[index] ?? '', await next(rcpt));
    if (!atOnce) {
      this.#assertRecipients();
      channel.send('DATA\r\n');
    }
    await this.#go(await this.#read());
  }

  /**
   * A server that was still with the message before says no to an early envelope, and one that had two answers to that message has said
   * one of them only now. So a no is believed of an envelope that came in its turn.
   */
  #assertMeant(reply: SmtpReply): void {
    if (reply.code === 421 || isUsedUp(reply)) this.isBelieved = true;
    else if (this.#announced && !isPositive(reply)) throw new SessionDropped('the envelope came too early');
  }

  #recipient(address: string, reply: SmtpReply): void {
    if (isPositive(reply)) {
      this.#accepted.push(address);
      return;
    }
    const said = this.#clean(reply);
    this.isBelieved = said.code === 421;
    if (this.isBelieved) throw refusal('recipients', 'envelope', said, this.#refusedInTurn);
    this.#rejected.push({ address, code: said.code >= 400 ? said.code : 0, reply: said.text });
  }

  #clean(reply: SmtpReply): SmtpReply {
    const text = this.#context.scrub(reply.text);
    return text === reply.text ? reply : { ...reply, text };
  }

  /** @throws MailError when there is nobody to send to, or somebody is missing who must not be. */
  #assertRecipients(canContinue = true): void {
    const rejected = this.#rejected;
    if (rejected.length === 0) return;
    if (this.#accepted.length > 0 && this.#options.onPartial === 'accept') return;
    this.canContinue = canContinue;
    this.isBelieved = true;
    // Where all must be taken one final refusal is final; otherwise a later attempt is for those who were put off.
    const needsAll = this.#options.onPartial !== 'accept';
    const decisive = rejected.find((one) => isRefusedForNow(one) !== needsAll) ?? rejected[0];
    const { code = 0, reply: text = '' } = decisive ?? {};
    const means = code === 552 && decisive && isRefusedForNow(decisive) ? 452 : code;
    const reply = { ...parseReply(text), code: means, text };
    throw refusal('recipients', 'envelope', reply, { rejected, replyCode: code });
  }

  /** What the answer to DATA means. */
  async #go(reply: SmtpReply): Promise<void> {
    if (reply.code === 354) {
      this.isBelieved = true;
      if (this.#context.channel.hasUnread) throw new EarlyAnswer('there is more than the 354');
      if (this.#accepted.length === 0) {
        // RFC 2920 section 3.1: asked for a message although nobody may get it, the answer is an empty one.
        this.#context.channel.send('.\r\n');
        const reply = await this.#readIfAny();
        this.#assertRecipients(reply !== undefined && reply.code !== 421);
      }
      this.#assertRecipients();
      return;
    }
    if (reply.code < 400) throw new ProtocolViolation('no 354 to DATA');
    const isOver = reply.code === 421;
    if (!isOver || this.#accepted.length === 0) this.#assertRecipients(!isOver);
    this.#assertMeant(reply);
    this.canContinue = reply.code !== 421;
    throw refusal('message', 'envelope', this.#clean(reply), this.#refusedInTurn);
  }

  /** Who was refused, as far as that is believed when the server ends the session. */
  get #refusedInTurn(): { readonly rejected?: readonly RejectedRecipient[] } {
    return this.#rejected.length > 0 && !this.#announced ? { rejected: this.#rejected } : {};
  }

  /**
   * Reads the answers to what was sent along, so that the session is where it was. When that fails, the session is of no
   * use any more, which is no news beside the refusal.
   */
  async #skip(recipients: number, data: boolean): Promise<boolean> {
    try {
      for (let count = 0; count < recipients; count++) if ((await this.#read()).code === 421) return false;
      // Asked for a message from a sender it refused, the server is left alone; and one that ends the session says so anywhere.
      return !data || ![354, 421].includes((await this.#read()).code);
    } catch {
      return false;
    }
  }

  get #isAllSent(): boolean {
    return this.#context.channel.progress.sent >= this.#writer.end;
  }

  /** With some of it still here, whatever the server means, it does not mean this message. */
  async #assertAllSent(reply: SmtpReply): Promise<void> {
    // TLS says late, in a turn of its own, that it has written.
    await new Promise(setImmediate);
    if (this.#isAllSent) return;
    const early = new EarlyAnswer('confirmed before it had the message');
    early.reply = reply;
    throw early;
  }

  /** The server's last word, of which LMTP has one for each recipient. */
  async #confirmation(): Promise<Delivered> {
    const { channel, timeouts, lmtp } = this.#context;
    const replies: SmtpReply[] = [];
    for (let count = lmtp ? this.#accepted.length : 1; count > 0; count--) {
      const reply = this.#clean(await channel.next(timeouts.confirmMs));
      if (!this.#isAllSent) await this.#assertAllSent(reply);
      if (!isPositive(reply) && reply.code < 400) throw new ProtocolViolation('no reply to the message');
      // X.4.1 is that no answer came from elsewhere (RFC 3463 section 3.5): Exchange ends a long session so, whatever became of this.
      if (reply.code === 421 && reply.enhancedCode === '4.4.1')
        throw new ProtocolViolation('no answer but an end');
      replies.push(reply);
      if (lmtp) this.#confirmed.push(isPositive(reply));
      if (lmtp && !isPositive(reply)) {
        const address = this.#accepted[replies.length - 1] ?? '';
        this.#rejected.push({ address, code: reply.code, reply: reply.text });
      }
    }
    // RFC 5321 section 3.8: with 421 a server ends the session, whatever it was asked.
    this.canContinue = !replies.some(({ code }) => code === 421);
    this.#context.onAnswered();
    const accepted = this.#accepted.filter((_, index) => isPositive(replies[lmtp ? index : 0] as SmtpReply));
    const refused = replies.filter((reply) => !isPositive(reply));
    if (accepted.length === 0) {
      const rejected = lmtp ? { rejected: this.#rejected } : {};
      const decisive = refused.find(({ code }) => code < 500) ?? refused[0];
      throw refusal('message', 'confirm', decisive as SmtpReply, rejected);
    }
    const response = replies.find(isPositive)?.text ?? '';
    const serverMessageId = serverId(response, accepted);
    const { extensions } = this.#context;
    return {
      ...{ accepted, rejected: this.#rejected, response },
      ...(serverMessageId && { serverMessageId }),
      ...(this.#options.dsn && { notifications: extensions.has('DSN') ? 'requested' : 'not-offered' }),
    };
  }
}
