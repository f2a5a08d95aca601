import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { type Readable, Transform } from 'node:stream';

/** There is no room for a body at the moment. */
export class NoRoom extends Error {
  readonly statusCode = 503;
}

/** How much of bodies, and of what they lead to, may be held at once. A body is held from its first byte until its request is done with. */
export class BodyBudget {
  readonly #most: number;
  #held = 0;
  /** What is held for each request. */
  readonly #shares = new WeakMap<ServerResponse, { bytes: number }>();
  /** What is done about a request. */
  readonly #work = new WeakMap<ServerResponse, Promise<unknown>>();

  /** @param most in bytes. One body alone may be larger. */
  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Takes room for what belongs to a request, until that is done with.
   *
   * @throws NoRoom
   */
  take(bytes: number, response: ServerResponse): void {
    // Nobody is there any more, and nothing will tell when it ends.
    if (response.destroyed || response.closed) throw new NoRoom();
    const own = this.#shares.get(response)?.bytes ?? 0;
    if (this.#held > own && this.#held + bytes > this.#most) throw new NoRoom();
    this.#held += bytes;
    const known = this.#shares.get(response);
    if (known) known.bytes += bytes;
    else {
      const share = { bytes };
      this.#shares.set(response, share);
      const giveBack = (): void => {
        this.#held -= share.bytes;
      };
      response.once('close', () => {
        const work = this.#work.get(response);
        if (work) work.then(giveBack, giveBack);
        else giveBack();
      });
    }
  }

  /** Keeps what is held for a request until what is done about it has ended, though nobody waits for that any more. */
  until<Value>(work: Promise<Value>, response: ServerResponse): Promise<Value> {
    this.#work.set(response, work);
    return work;
  }

  /**
   * Takes room for a body that says how long it is, until its request is done with.
   *
   * @param limit what one body may have at most; longer ones are refused elsewhere.
   * @throws NoRoom
   */
  announce(headers: IncomingHttpHeaders, limit: number, response: ServerResponse): void {
    const bytes = Math.min(Number(headers['content-length'] ?? 0), limit);
    if (bytes > 0) this.take(bytes, response);
  }

  /** A body that does not say how long it is: room is taken as it comes, and the stream fails where there is none. */
  counting(body: Readable, response: ServerResponse): Readable {
    const counted = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        try {
          this.take(chunk.length, response);
          done(null, chunk);
        } catch (error) {
          done(error as Error);
        }
      },
    });
    body.on('error', (error) => counted.destroy(error));
    // Whoever read it may have answered already, and hears nothing any more.
    counted.on('error', () => undefined);
    return body.pipe(counted);
  }
}
