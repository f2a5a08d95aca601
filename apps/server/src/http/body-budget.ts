import type { IncomingHttpHeaders, ServerResponse } from 'node:http';

/** How much of bodies may be held at once. A body is held from its first byte until its request is answered. */
export class BodyBudget {
  readonly #most: number;
  #held = 0;

  /** @param most in bytes. One body alone may be larger. */
  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Takes room for the body of a request, until it is answered or gone.
   *
   * @param limit what one body may have at most; one that does not say how long it is may be as long.
   * @returns whether there was room.
   */
  take(headers: IncomingHttpHeaders, limit: number, response: ServerResponse): boolean {
    const length = headers['content-length'];
    const isSent = length !== undefined || headers['transfer-encoding'] !== undefined;
    const bytes = isSent ? Math.min(Number(length ?? limit), limit) : 0;
    if (bytes === 0) return true;
    if (this.#held > 0 && this.#held + bytes > this.#most) return false;
    this.#held += bytes;
    response.once('close', () => {
      this.#held -= bytes;
    });
    return true;
  }
}
