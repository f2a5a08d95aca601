import type { RejectedRecipient } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import { refusal, type SmtpReply } from '../diagnosis/reply-failure.ts';
import { mailCommand, rcptCommand } from './envelope-commands.ts';
import type { Extensions } from './extensions.ts';
import { EarlyAnswer, MessageWriter } from './message-writer.ts';
import type { Delivered, DeliverOptions } from './session-contract.ts';
import { ProtocolViolation, type SmtpChannel } from './smtp-channel.ts';

export interface TransactionContext {
  readonly channel: SmtpChannel;
  readonly extensions: Extensions;
  readonly timeouts: { readonly commandMs: number; readonly dataMs: number; readonly confirmMs: number };
  /** LMTP (RFC 2033) answers the message once for each recipient. */
  readonly lmtp: boolean;
  /** A transaction was broken off before, so this one begins with RSET. */
  readonly reset: boolean;
  readonly scrub: (text: string) => string;
}

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
  /** Whether the session can take another message after this one failed. */
  canContinue = false;

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

  async run(): Promise<Delivered> {
    try {
      await this.#envelope();
      await this.#options.beforeData?.();
      await this.#writer.write(this.#message.body);
      return await this.#confirmation(this.#context.channel.progress.written);
    } catch (error) {
      if (error instanceof EarlyAnswer) error.reply ??= await this.#read().catch(() => undefined);
      throw error;
    }
  }

  #read(): Promise<SmtpReply> {
    return this.#context.channel.read(this.#context.timeouts.commandMs);
  }

  /** Up to the 354 that asks for the message. */
  async #envelope(): Promise<void> {
    const { channel, extensions } = this.#context;
    const { envelope } = this.#message;
    const reset = this.#context.reset ? 'RSET\r\n' : '';
    const mail = mailCommand(this.#message, extensions, this.#options);
    const rcpts = envelope.to.map((to) => rcptCommand(to, extensions, this.#options));
    const pipelining = extensions.has('PIPELINING');
    // Who must be sure of every recipient first cannot say DATA in the same breath.
    const atOnce = pipelining && this.#options.onPartial === 'accept';
    if (pipelining) channel.send([reset, mail, ...rcpts, atOnce ? 'DATA\r\n' : ''].join(''));
    const next = (command: string): Promise<SmtpReply> => {
      if (!pipelining) channel.send(command);
      return this.#read();
    };

    if (reset !== '' && !isPositive(await next(reset))) throw new SessionDropped('RSET was refused');
    const sender = await next(mail);
    if (sender.code === 0) throw new ProtocolViolation('no reply to MAIL');
    if (!isPositive(sender)) {
      const isOpen = sender.code !== 421;
      this.canContinue = isOpen && (!pipelining || (await this.#skip(rcpts.length, atOnce)));
      throw refusal('sender', 'envelope', this.#clean(sender));
    }
    for (const [index, rcpt] of rcpts.entries()) this.#recipient(envelope.to[index] ?? '', await next(rcpt));
    if (!atOnce) {
      this.#assertRecipients();
      channel.send('DATA\r\n');
    }
    await this.#go(await this.#read());
  }

  #recipient(address: string, reply: SmtpReply): void {
    const { code, text } = this.#clean(reply);
    if (isPositive(reply)) this.#accepted.push(address);
    else if (code === 421) throw refusal('recipients', 'envelope', { ...reply, text });
    else this.#rejected.push({ address, code: code >= 400 ? code : 0, reply: text });
  }

  #clean(reply: SmtpReply): SmtpReply {
    return { ...reply, text: this.#context.scrub(reply.text) };
  }

  /** @throws MailError when there is nobody to send to, or somebody is missing who must not be. */
  #assertRecipients(canContinue = true): void {
    const rejected = this.#rejected;
    if (rejected.length === 0) return;
    if (this.#accepted.length > 0 && this.#options.onPartial === 'accept') return;
    this.canContinue = canContinue;
    // One final refusal makes it final; a later attempt would meet it again. RFC 5321 section 4.5.3.1.10: 552 means 452.
    const isFinal = ({ code }: RejectedRecipient): boolean => (code < 400 || code >= 500) && code !== 552;
    const worst = rejected.find(isFinal) ?? rejected[0];
    const reply = { code: worst?.code === 552 ? 452 : (worst?.code ?? 0), text: worst?.reply ?? '' };
    throw refusal('recipients', 'envelope', reply, { rejected });
  }

  /** What the answer to DATA means. */
  async #go(reply: SmtpReply): Promise<void> {
    if (reply.code === 354) {
      if (this.#context.channel.hasUnread) throw new EarlyAnswer('there is more than the 354');
      if (this.#accepted.length === 0) {
        const isOpen = await this.#sendNothing().then(
          () => true,
          () => false,
        );
        this.#assertRecipients(isOpen);
      }
      this.#assertRecipients();
      return;
    }
    if (reply.code < 400) throw new ProtocolViolation('no 354 to DATA');
    if (reply.code !== 421) this.#assertRecipients();
    this.canContinue = reply.code !== 421;
    throw refusal('message', 'envelope', this.#clean(reply));
  }

  /**
   * Reads the answers to what was sent along, so that the session is where it was. When that fails, the session is of no
   * use any more, which is no news beside the refusal.
   */
  async #skip(recipients: number, data: boolean): Promise<boolean> {
    try {
      for (let count = 0; count < recipients; count++) await this.#read();
      // Asked for a message from a sender it refused, the server is left alone.
      return !data || (await this.#read()).code !== 354;
    } catch {
      return false;
    }
  }

  /** RFC 2920 section 3.1: asked for a message although nobody may get it, the answer is an empty one. */
  async #sendNothing(): Promise<void> {
    this.#context.channel.send('.\r\n');
    await this.#read();
  }

  /** With some of it still here, whatever the server means, it does not mean this message. */
  async #assertAllSent(end: number, reply: SmtpReply): Promise<void> {
    const { channel } = this.#context;
    // TLS says late, in a turn of its own, that it has written.
    if (channel.progress.sent < end) await new Promise(setImmediate);
    if (channel.progress.sent >= end) return;
    const early = new EarlyAnswer('confirmed before it had the message');
    early.reply = reply;
    throw early;
  }

  /** The server's last word, of which LMTP has one for each recipient. */
  async #confirmation(end: number): Promise<Delivered> {
    const { channel, timeouts, lmtp } = this.#context;
    const replies: SmtpReply[] = [];
    for (let count = lmtp ? this.#accepted.length : 1; count > 0; count--) {
      const reply = this.#clean(await channel.read(timeouts.confirmMs));
      await this.#assertAllSent(end, reply);
      if (!isPositive(reply) && reply.code < 400) throw new ProtocolViolation('no reply to the message');
      replies.push(reply);
    }
    this.canContinue = true;
    const accepted = this.#accepted.filter((_, index) => isPositive(replies[lmtp ? index : 0] as SmtpReply));
    const refused = replies.filter((reply) => !isPositive(reply));
    for (const [index, reply] of replies.entries()) {
      if (lmtp && !isPositive(reply)) {
        this.#rejected.push({ address: this.#accepted[index] ?? '', code: reply.code, reply: reply.text });
      }
    }
    if (accepted.length === 0) {
      const rejected = lmtp ? { rejected: this.#rejected } : {};
      const final = refused.find(({ code }) => code >= 500) ?? refused[0];
      throw refusal('message', 'confirm', final as SmtpReply, rejected);
    }
    const response = replies.find(isPositive)?.text ?? '';
    const serverMessageId = serverId(response);
    return { accepted, rejected: this.#rejected, response, ...(serverMessageId && { serverMessageId }) };
  }
}

/** The id a server gave the message, in the forms of Postfix, Exim, Exchange, Gmail and their like. */
function serverId(response: string): string | undefined {
  const [, postfix, exim, angle, gmail] =
    /queued as ([\w.-]+)|\bOK id=([\w.-]+)|(<[^<>\s]+@[^<>\s]+>)|^250[ -]2\.0\.0 OK\s+(\d+ [\w.-]+)/im.exec(
      response,
    ) ?? [];
  return postfix ?? exim ?? angle ?? gmail;
}
