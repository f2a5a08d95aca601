import { Readable, type Writable } from 'node:stream';

/** How much of the message has left: nothing, some, or all of it up to the final dot. */
export type BodyPhase = 'envelope' | 'data' | 'confirm';

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
  pipe(destination: Writable & Readable): void {
    // It ends when its reader, the socket, has taken everything, the final dot included.
    destination.once('end', () => this.#enter('confirm'));
    try {
      const waiting = this.#events.beforeData();
      if (waiting === undefined) this.#write(destination);
      else waiting.then(() => this.#write(destination)).catch(this.#events.onFailure);
    } catch (error) {
      this.#events.onFailure(error);
    }
  }

  #write(destination: Writable): void {
    this.#enter('data');
    const content = this.#content;
    if (Buffer.isBuffer(content)) {
      destination.end(content);
      return;
    }
    content.once('error', this.#events.onFailure);
    content.pipe(destination);
  }

  /** Releases what the content holds open. */
  destroy(): void {
    if (this.#content instanceof Readable) this.#content.on('error', () => undefined).destroy();
  }
}
