import type { Socket } from 'node:net';
import type { SmtpReply } from '../diagnosis/reply-failure.ts';
import { ReplyParser } from './reply-parser.ts';
import type { Transcript } from './transcript.ts';

const standstillCheckMs = 1_000;
/** Commands of up to so many characters leave as one with the end of the message before them. */
const longestTogether = 8 * 1024;

/** How large replies may become together that nobody has asked for yet, in characters: those of ten thousand recipients. */
const mostUnread = 4 * 1024 * 1024;
/** What a reply takes in memory besides its text. */
const replyOverhead = 100;

/** The other side does not keep to SMTP. */
export class ProtocolViolation extends Error {}

const systemError = (code: string): Error => Object.assign(new Error(code), { code });

interface Waiter {
  resolve(reply: SmtpReply): void;
  reject(cause: unknown): void;
}

/** Commands out, replies in, over one socket; in order, with a time limit for each wait. */
export class SmtpChannel {
  #socket: Socket;
  /** The one that TLS runs over. */
  #underneath: Socket | undefined;
  readonly #transcript: Transcript;
  #parser = new ReplyParser();
  #unread: SmtpReply[] = [];
  #unreadSize = 0;
  #waiter: Waiter | undefined;
  #failure: { readonly cause: unknown } | undefined;
  #onFailure: (() => void) | undefined;
  #isHeldBack = false;
  /** Nobody talks: whatever comes in ends the channel. */
  isIdle = false;
  /** How many replies came since the channel began. */
  replies = 0;

  constructor(socket: Socket, transcript: Transcript) {
    this.#socket = socket;
    this.#transcript = transcript;
    this.#listen();
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.isIdle) this.fail(new ProtocolViolation('an answer nobody asked for'));
    else this.#receiveAll(() => this.#parser.feed(chunk));
  };
  readonly #onError = (error: Error): void => this.fail(error);
  readonly #onClose = (): void => {
    // A last reply may lack its line end, and is a reply all the same.
    if (!this.#failure) this.#receiveAll(() => this.#parser.end());
    this.fail(systemError('ECONNRESET'));
  };

  #listen(): void {
    this.#socket.on('data', this.#onData).on('error', this.#onError);
    this.#socket.once('end', this.#onClose).once('close', this.#onClose);
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** Takes a socket out, to be wrapped in TLS. Nothing may have come in that was not asked for. */
  release(): Socket {
    this.#socket.off('data', this.#onData).off('error', this.#onError);
    this.#socket.off('end', this.#onClose).off('close', this.#onClose);
    return this.#socket;
  }

  /** Goes on over another socket, with nothing left of what was said before. */
  attach(socket: Socket): void {
    this.#underneath = this.#socket;
    this.#socket = socket;
    this.#parser = new ReplyParser();
    this.#unread = [];
    this.#unreadSize = 0;
    this.#listen();
  }

  /** Whether something came in that nobody has read. */
  get hasUnread(): boolean {
    return this.#unread.length > 0 || this.#parser.hasPartial;
  }

  /** What ended the channel. */
  get cause(): unknown {
    return this.#failure?.cause;
  }

  /** Whether it ended because the server said nothing for too long. */
  get timedOut(): boolean {
    return (this.cause as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT';
  }

  /** Whether an error is what ended the channel. */
  causedBy(cause: unknown): boolean {
    return this.#failure?.cause === cause;
  }

  /** @throws whatever ended the channel. */
  assertOpen(): void {
    if (this.#failure) throw this.#failure.cause;
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  #receiveAll(parse: () => SmtpReply[]): void {
    try {
      for (const reply of parse()) this.#receive(reply);
    } catch {
      this.fail(new ProtocolViolation('a reply without end'));
    }
  }

  #receive(reply: SmtpReply): void {
    this.replies++;
    this.#transcript.received(reply.code, reply.text);
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter) {
      waiter.resolve(reply);
      return;
    }
    this.#unread.push(reply);
    this.#unreadSize += reply.text.length + replyOverhead;
    if (this.#unreadSize > mostUnread) this.fail(new ProtocolViolation('answers without end'));
  }

  /** Ends the channel. Whoever waits gets the cause; so does everybody after. */
  fail(cause: unknown): void {
    if (this.#failure) return;
    this.#failure = { cause };
    this.#socket.destroy();
    this.#underneath?.destroy();
    this.#waiter?.reject(cause);
    this.#waiter = undefined;
    this.#onFailure?.();
  }

  /** Ends the channel because the caller gave up, and gives the cause. */
  abort(): unknown {
    // The caller's reason may be anything; that there is one is all that counts here.
    this.fail(new Error('aborted'));
    return this.cause;
  }

  /** How many bytes have been written, and how many of them have left this process. */
  get progress(): { readonly written: number; readonly sent: number } {
    const { bytesWritten, writableLength } = this.#socket;
    return { written: bytesWritten, sent: bytesWritten - writableLength };
  }

  /** Ends the channel once everything written has left. */
  end(): void {
    this.#socket.once('finish', () => this.fail(systemError('ECONNRESET'))).end();
  }

  /** Writes commands, each with its line end. */
  send(commands: string): void {
    if (this.#failure) return;
    // Whatever it is the answer to, it is not to what is about to be said.
    if (this.#unread.length > 0) {
      this.fail(new ProtocolViolation('an answer nobody asked for'));
      return;
    }
    this.#transcript.sent(commands);
    // A piece counts as sent when all of it is, and the end of a message must not wait for that of a long envelope.
    if (commands.length > longestTogether) this.#letGo();
    // As bytes, because the socket counts what waits in it by characters where that is text.
    this.#socket.write(Buffer.from(commands));
    this.#letGo();
  }

  /** Keeps what is written next until the commands that follow it, so that both leave as one; in this turn all the same. */
  holdBack(): void {
    if (this.#isHeldBack) return;
    this.#isHeldBack = true;
    this.#socket.cork();
    process.nextTick(() => this.#letGo());
  }

  #letGo(): void {
    if (!this.#isHeldBack) return;
    this.#isHeldBack = false;
    this.#socket.uncork();
  }

  /** Writes pieces of a message in one go; whether there is room for more. */
  write(...pieces: readonly Buffer[]): boolean {
    this.assertOpen();
    const [only] = pieces;
    const hasRoom = this.#socket.write(only && pieces.length === 1 ? only : Buffer.concat(pieces));
    this.#transcript.message(pieces);
    return hasRoom;
  }

  /** The next reply, in the order of the commands; at once when it is here already. */
  next(limitMs: number): SmtpReply | Promise<SmtpReply> {
    const here = this.#unread.shift();
    if (!here) return this.#wait(limitMs);
    this.#unreadSize -= here.text.length + replyOverhead;
    return here;
  }

  /** The same, later in any case. */
  async read(limitMs: number): Promise<SmtpReply> {
    return this.next(limitMs);
  }

  #wait(limitMs: number): Promise<SmtpReply> {
    return new Promise((resolve, reject) => {
      this.assertOpen();
      // What has come in already is heard first: a process that was stopped finds its time over before that.
      const late = (): unknown =>
        setImmediate(() => {
          if (this.#waiter === waiter) this.fail(systemError('ETIMEDOUT'));
        });
      const timer = setTimeout(late, limitMs);
      const waiter: Waiter = {
        resolve: (reply) => {
          clearTimeout(timer);
          resolve(reply);
        },
        reject: (cause) => {
          clearTimeout(timer);
          reject(cause);
        },
      };
      this.#waiter = waiter;
    });
  }

  /** Runs `stop` when the channel fails while `work` is going on. */
  async stopping<Result>(stop: () => void, work: () => Promise<Result>): Promise<Result> {
    this.#onFailure = stop;
    try {
      this.assertOpen();
      return await work();
    } catch (error) {
      throw this.#failure?.cause ?? error;
    } finally {
      this.#onFailure = undefined;
    }
  }

  /**
   * Waits until there is room to write more, or something has come in. A reader may be slow, but not stand still for
   * longer than the limit.
   */
  async drained(limitMs: number): Promise<void> {
    const socket = this.#socket;
    const sent = (): number => this.progress.sent;
    const interval = Math.min(limitMs, standstillCheckMs);
    let before = sent();
    let quietMs = 0;
    const timer = setInterval(() => {
      quietMs = sent() === before ? quietMs + interval : 0;
      before = sent();
      if (quietMs >= limitMs) this.fail(systemError('ETIMEDOUT'));
    }, interval);
    let wake: () => void = () => undefined;
    try {
      await new Promise<void>((resolve) => {
        wake = resolve;
        socket.once('drain', wake).once('data', wake).once('close', wake);
      });
    } finally {
      clearInterval(timer);
      socket.off('drain', wake).off('data', wake).off('close', wake);
    }
    this.assertOpen();
  }
}
