import type { ErrorCategory, MailErrorJson, Phase } from '@flowpost/core';

/** What goes wrong with every row alike: to go on would fail them all. */
const forEveryRow: ReadonlySet<ErrorCategory> = new Set(['authentication', 'configuration', 'tls']);
/** Before a server is told anything of a message, whatever fails has nothing to do with the row. */
const beforeAnyRow: ReadonlySet<Phase> = new Set(['token', 'resolve', 'connect', 'tls', 'greeting', 'auth']);
/** One row may have a message that a server drops the connection at, or never answers; so many in a row are the server's. */
const mostInARow = 5;

/** Says when it makes no sense to begin another row. */
export class Brake {
  #inARow = 0;

  /** @param error how a row failed, in the order rows end; without one, it was sent. */
  stops(error?: MailErrorJson): boolean {
    // What is left alone for an earlier row says nothing of the server.
    if (error?.category === 'cancelled' || error?.code === 'DUPLICATE_IN_DOUBT') return false;
    if (!error?.inDoubt && error?.category !== 'network') this.#inARow = 0;
    else this.#inARow++;
    if (!error) return false;
    const { category, code, phase, inDoubt } = error;
    if (this.#inARow >= mostInARow) return true;
    if (inDoubt) return false;
    if (category === 'network') return beforeAnyRow.has(phase);
    return forEveryRow.has(category) || code === 'STORAGE_UNAVAILABLE';
  }
}
