import { StringDecoder } from 'node:string_decoder';
import { parseReply, type SmtpReply } from '../diagnosis/reply-failure.ts';

/** RFC 5321 section 4.5.3.1.5 allows 512 octets a line; servers with a lot to say use more. */
const longestLine = 8 * 1024;
/** All its lines together: a server with much to say needs a tenth of it, and what reads it must never take long. */
const longestReply = 16 * 1024;
const carriageReturn = 0x0d;

/** More than any server has to say: something else is at the other end, or means harm. */
export class ReplyTooLong extends Error {}

/**
 * Takes a server's bytes apart into replies (RFC 5321 section 4.2), however they come in: whole, in pieces, several
 * at once. A line that is no reply becomes one with the code 0.
 */
export class ReplyParser {
  readonly #decoder = new StringDecoder('utf8');
  #pending = '';
  #lines: string[] = [];
  #length = 0;

  /**
   * @returns the replies that are complete now.
   * @throws ReplyTooLong
   */
  feed(chunk: Buffer): SmtpReply[] {
    const text = this.#pending + this.#decoder.write(chunk);
    const replies: SmtpReply[] = [];
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      const end = text.charCodeAt(at - 1) === carriageReturn ? Math.max(from, at - 1) : at;
      const reply = this.#take(text.slice(from, end));
      if (reply) replies.push(reply);
      from = at + 1;
    }
    this.#pending = text.slice(from);
    if (this.#pending.length > longestLine) throw new ReplyTooLong('a line without end');
    return replies;
  }

  /** What is left when the server has closed: a last line may lack its end. */
  end(): SmtpReply[] {
    const rest = this.#pending;
    this.#pending = '';
    const reply = rest === '' ? undefined : this.#take(rest);
    return reply ? [reply] : [];
  }

  /** Whether bytes are here that are not a whole reply yet. */
  get hasPartial(): boolean {
    return this.#pending !== '' || this.#lines.length > 0;
  }

  /** The reply that a line completes. */
  #take(line: string): SmtpReply | undefined {
    this.#length += line.length + 1;
    if (line.length > longestLine || this.#length > longestReply) throw new ReplyTooLong('too much text');
    const isLast = !/^\d{3}-/.test(line);
    if (isLast) this.#length = 0;
    if (isLast && this.#lines.length === 0) return parseReply(line) ?? { code: 0, text: line };
    this.#lines.push(line);
    if (!isLast) return undefined;
    const text = this.#lines.join('\n');
    const codes = new Set(this.#lines.map((one) => one.slice(0, 3)));
    this.#lines = [];
    const reply = codes.size === 1 ? parseReply(line) : undefined;
    return reply ? { ...reply, text } : { code: 0, text };
  }
}
