import type { ErrorCategory, MailErrorJson } from '@flowpost/core';
import type { NodeOutcome } from '@flowpost/node-adapter';
import type { RowResult, RowState } from './journal.ts';

/** What goes wrong with every row alike: to go on would fail them all. */
const forEveryRow: ReadonlySet<ErrorCategory> = new Set([
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
    return { state: status === 'partial' ? 'partial' : 'sent', messageId, accepted, rejected, response };
  }
  const error = outcome.error as MailErrorJson;
  const { code, category, phase, message, hint, retryable, inDoubt, details } = error;
  const isDeferred = retryable || forEveryRow.has(category);
  const state: RowState = inDoubt ? 'in-doubt' : isDeferred ? 'deferred' : 'failed';
  const messageId = (details as { messageId?: string } | undefined)?.messageId;
  return { state, ...(messageId && { messageId }), error: { code, category, phase, message, hint } };
}

/** Whether it makes no sense to begin another row. */
export const stopsBatch = ({ category, code, inDoubt }: MailErrorJson): boolean =>
  !inDoubt && (forEveryRow.has(category) || code === 'STORAGE_UNAVAILABLE');
