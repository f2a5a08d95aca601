import type { MailErrorJson } from '@flowpost/core';
import type { NodeOutcome } from '@flowpost/node-adapter';
import { say } from '../output.ts';
import type { RowState } from './row-memory.ts';

/** What became of the rows of this run. */
export class Tally {
  /** How many have ended, and how many of them were sent to everybody, or to some. */
  ended = 0;
  sent = 0;
  partial = 0;
  readonly #started = performance.now();
  #firstFailure: { readonly row: number; readonly error: MailErrorJson } | undefined;

  get seconds(): number {
    return (performance.now() - this.#started) / 1_000;
  }

  /** Of those that failed, why the one did that comes first in the table: which ends first is chance. */
  get firstFailure(): MailErrorJson | undefined {
    return this.#firstFailure?.error;
  }

  /** Counts a row, and says of it what people should know. */
  add(row: number, state: RowState, outcome: NodeOutcome): void {
    this.ended++;
    if (state === 'sent') this.sent++;
    if (state === 'partial') this.partial++;
    const refused = 'receipt' in outcome ? outcome.receipt.rejected : [];
    for (const { address, reply } of refused)
      say(`Row ${row}: ${state}: refused: ${address} (${reply})`, 'error');
    if (!('error' in outcome) || outcome.error.category === 'cancelled') return;
    const { error } = outcome;
    say(`Row ${row}: ${state}: ${error.message}`, 'error');
    if (row < (this.#firstFailure?.row ?? Number.POSITIVE_INFINITY)) this.#firstFailure = { row, error };
  }
}
