import { Readable, type Writable } from 'node:stream';

/**
 * How much of the message has been handed over: nothing, some, or everything, so that the final dot may leave at any
 * moment.
 */
export type BodyPhase = 'envelope' | 'data' | 'confirm';

const sliceBytes = 64 * 1024;

export interface MessageBodyEvents {
  /** Awaited before the first byte; when it fails, none leaves. */
  readonly beforeData: () => void | Promise<void>;
  readonly onPhase: (phase: BodyPhase) => void;
  /** `beforeData` or the content's stream failed. The message has not been ended, and must not be. */
  readonly onFailure: (error: unknown) => void;
}

/**
 * Hands a message to the connection, and knows at every moment how much of it has left. That is what decides
 * whether a lost connection leaves the delivery in doubt. Shaped as the connection expects a message to be:
 * something with `pipe`.
 */
export class MessageBody {
  readonly #content: Buffer | Readable;
  readonly #events: MessageBodyEvents;
  #phase: BodyPhase = 'envelope';

  constructor(content: Buffer | Readable, events: MessageBodyEvents) {
    this.#content = content;
    this.#events = events;
  }

  get phase(): BodyPhase {
    return this.#phase;
  }

  #enter(phase: BodyPhase): void {
    this.#phase = phase;
    this.#events.onPhase(phase);
  }

  /** Called by the connection once the server has answered DATA with 354. */
  pipe(destination: Writable): void {
    try {
      const waiting = this.#events.beforeData();
      if (waiting === undefined) this.#write(destination);
      else waiting.then(() => this.#write(destination)).catch(this.#events.onFailure);
    } catch (error) {
      this.#events.onFailure(error);
    }
  }

  #write(destination: Writable): void {
    const content = this.#content;
    if (Buffer.isBuffer(content)) {
      if (content.length > sliceBytes) this.#enter('data');
      this.#writeSlices(destination, content, 0);
      return;
    }
    this.#enter('data');
    content.once('error', this.#events.onFailure);
    // Before the pipe's own listener, which ends the destination and with it writes the dot.
    content.once('end', () => this.#enter('confirm'));
    content.pipe(destination);
  }

  /** In slices, because progress shows only from one write to the next. */
  #writeSlices(destination: Writable, content: Buffer, from: number): void {
    let at = from;
    while (at + sliceBytes < content.length) {
      const hasRoom = destination.write(content.subarray(at, at + sliceBytes));
      at += sliceBytes;
      if (!hasRoom) {
        const next = at;
        destination.once('drain', () => this.#writeSlices(destination, content, next));
        return;
      }
    }
    // Said before the end is written, never after: in between the caller may cancel.
    this.#enter('confirm');
    destination.end(content.subarray(at));
  }

  /** Releases what the content holds open. */
  destroy(): void {
    if (this.#content instanceof Readable) this.#content.on('error', () => undefined).destroy();
  }
}
