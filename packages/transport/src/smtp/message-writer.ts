import type { Readable } from 'node:stream';
import type { SmtpReply } from '../diagnosis/reply-failure.ts';
import type { SmtpChannel } from './smtp-channel.ts';

/**
 * How much of the message has been handed over: nothing, some, or everything, so that the final dot may leave at any
 * moment. That is what decides whether a lost connection leaves the delivery in doubt.
 */
export type BodyPhase = 'envelope' | 'data' | 'confirm';

const sliceBytes = 64 * 1024;
/** More than this are cheaper as one. */
const mostPieces = 8;
const dot = Buffer.from('.');
const end = Buffer.from('.\r\n');
const lineEnd = Buffer.from('\r\n');

/** The server said something before it had the whole message. */
export class EarlyAnswer extends Error {
  /** What it said, once all of it is here. */
  reply: SmtpReply | undefined;
}

/** Doubles the dots at the beginning of lines (RFC 5321 section 4.5.2), over pieces of any size. */
class DotStuffing {
  /** The last two bytes, as text; a message begins like a line does. */
  #tail = '\r\n';

  stuff(piece: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let from = 0;
    const add = (at: number): void => {
      out.push(piece.subarray(from, at), dot);
      from = at;
    };
    if (piece[0] === 0x2e && this.#tail === '\r\n') add(0);
    if (piece[0] === 0x0a && piece[1] === 0x2e && this.#tail.endsWith('\r')) add(1);
    for (let at = piece.indexOf('\r\n.'); at >= 0; at = piece.indexOf('\r\n.', at + 3)) add(at + 2);
    out.push(piece.subarray(from));
    this.#tail = (this.#tail + piece.toString('latin1', Math.max(0, piece.length - 2))).slice(-2);
    return out.length > mostPieces ? [Buffer.concat(out)] : out;
  }

  /** What ends the message: the dot on a line of its own. */
  end(): Buffer[] {
    return this.#tail === '\r\n' ? [end] : [lineEnd, end];
  }
}

/** Writes a message and its final dot, and knows at every moment how much of it has left. */
export class MessageWriter {
  phase: BodyPhase = 'envelope';
  /** How many bytes the channel had written with the end of the message, before anything that follows it. */
  end = 0;
  readonly #channel: SmtpChannel;
  readonly #standstillMs: number;

  constructor(channel: SmtpChannel, standstillMs: number) {
    this.#channel = channel;
    this.#standstillMs = standstillMs;
  }

  /**
   * Hands the message over; at once when it is small.
   *
   * @param beforeEnd called right before the end leaves; whether something else is going to be written at once.
   */
  write(body: Buffer | Readable, beforeEnd?: () => boolean): Promise<void> | undefined {
    if (!Buffer.isBuffer(body)) {
      const writeStream = () => this.#writeStream(body, beforeEnd);
      return this.#channel.stopping(() => body.destroy(), writeStream);
    }
    if (body.length > sliceBytes) return this.#writeSlices(body, beforeEnd);
    this.#writeLast(new DotStuffing(), body, beforeEnd);
    return undefined;
  }

  async #writeSlices(body: Buffer, beforeEnd?: () => boolean): Promise<void> {
    const stuffing = new DotStuffing();
    let at = 0;
    this.phase = 'data';
    // In slices, because an answer in between shows only from one write to the next.
    for (; at + sliceBytes < body.length; at += sliceBytes) {
      await this.#writePart(stuffing.stuff(body.subarray(at, at + sliceBytes)));
    }
    this.#writeLast(stuffing, body.subarray(at), beforeEnd);
  }

  #writeLast(stuffing: DotStuffing, rest: Buffer, beforeEnd: (() => boolean) | undefined): void {
    // One write costs less than the copy that makes one piece of these.
    this.#writeEnd([Buffer.concat([...stuffing.stuff(rest), ...stuffing.end()])], beforeEnd);
  }

  async #writeStream(body: Readable, beforeEnd?: () => boolean): Promise<void> {
    const stuffing = new DotStuffing();
    this.phase = 'data';
    for await (const chunk of body) await this.#writePart(stuffing.stuff(chunk as Buffer));
    this.#writeEnd(stuffing.end(), beforeEnd);
  }

  async #writePart(pieces: readonly Buffer[]): Promise<void> {
    this.#assertNoAnswer();
    if (!this.#channel.write(...pieces)) await this.#channel.drained(this.#standstillMs);
  }

  #writeEnd(pieces: readonly Buffer[], beforeEnd: (() => boolean) | undefined): void {
    this.#assertNoAnswer();
    if (beforeEnd?.()) this.#channel.holdBack();
    // Said before the end is written, never after: in between the caller may cancel.
    this.phase = 'confirm';
    this.#channel.write(...pieces);
    this.end = this.#channel.progress.written;
  }

  #assertNoAnswer(): void {
    this.#channel.assertOpen();
    if (this.#channel.hasUnread) throw new EarlyAnswer('the server answered before it had the message');
  }
}
