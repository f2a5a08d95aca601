import { definedOnly, type ErrorCategory } from '@flowpost/core';
import type { NodeOutcome } from '@flowpost/node-adapter';
import type { RowResult } from './journal.ts';
import type { RowState } from './row-memory.ts';

/** What is no fault of the row: it was not sent, and may be once somebody has seen to that. */
const laterPerhaps: ReadonlySet<ErrorCategory> = new Set([
  'authentication',
  'configuration',
  'tls',
  'network',
  'cancelled',
]);

/** An outcome as a line of the results. */
export function resultOf(outcome: NodeOutcome): RowResult {
  if (!('error' in outcome)) {
    const { status, messageId, accepted, rejected, response } = outcome.receipt;
    const state = rejected.length > 0 ? 'partial' : 'sent';
    // Sent before, that is: with duplicateWindow the same content to the same people is sent once.
    const isDuplicate = status === 'duplicate' && { isDuplicate: true };
    return { state, messageId, accepted, rejected, response, ...isDuplicate };
  }
  const { code, category, phase, message, hint, retryable, inDoubt, details } = outcome.error;
  const isDeferred = retryable || laterPerhaps.has(category);
  const state: RowState = inDoubt ? 'in-doubt' : isDeferred ? 'deferred' : 'failed';
  const { messageId, accepted, rejected, unconfirmed, ...others } = (details ?? {}) as Readonly<
    Record<string, unknown>
  >;
  // Of a doubt that is about some only, what is known of the others.
  const known = definedOnly({ accepted, rejected, unconfirmed });
  const recipients = inDoubt && known;
  return {
    state,
    ...definedOnly({ messageId }),
    ...recipients,
    // Hints speak of them.
    error: { code, category, phase, message, hint, details: inDoubt ? others : { ...others, ...known } },
  };
}
