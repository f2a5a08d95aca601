import { isMailError, type MailError, type RejectedRecipient, type SendReceipt } from '@flowpost/core';
import { isOneTooMany, isRefusedForNow } from '../diagnosis/reply-failure.ts';

/** Whom the server would not take a message for now, but may take it for later: a 4yz reply, or 552 (RFC 5321 section 4.5.3.1.10). */
export const refusedForNow = ({ rejected }: SendReceipt): string[] =>
  rejected.filter(isRefusedForNow).map(({ address }) => address);

/**
 * Who is asked for in another message at once, because the server had enough recipients in this one: those it had no room for, and
 * behind them whom it refused for now for another reason, who would otherwise be forgotten over them.
 *
 * @param before how many had it before. Where nobody got it now, nobody would the next time.
 */
export function beyondLimit(receipt: SendReceipt, before: number): string[] {
  const { accepted, rejected } = receipt;
  const more = accepted.length > before ? rejected.filter(isOneTooMany).map(({ address }) => address) : [];
  return more.length > 0 ? [...new Set([...more, ...refusedForNow(receipt)])] : [];
}

/**
 * One receipt of a message that was handed over again for some of its recipients (`onlyTo`).
 *
 * @param earlier what was known before.
 * @param again whom it was handed over for again.
 * @param outcome the receipt of that, or what it failed with. An error that names refused recipients says what became of them; any
 *   other changes nothing about what is known.
 */
export function continuedReceipt(
  earlier: SendReceipt,
  again: readonly string[],
  outcome: SendReceipt | MailError,
): SendReceipt {
  const later = isMailError(outcome) ? refusals(earlier, outcome.details.rejected) : outcome;
  if (!later) return earlier;
  // Of those that an error does not name nothing new is known.
  const named = isMailError(outcome) ? later.rejected.map(({ address }) => address) : again;
  const rejected = [...earlier.rejected.filter(({ address }) => !named.includes(address)), ...later.rejected];
  return {
    ...later,
    status: rejected.length > 0 ? 'partial' : 'sent',
    accepted: [...earlier.accepted, ...later.accepted],
    rejected,
  };
}

function refusals(earlier: SendReceipt, rejected: unknown): SendReceipt | undefined {
  if (!Array.isArray(rejected)) return undefined;
  return { ...earlier, accepted: [], rejected: rejected as readonly RejectedRecipient[] };
}
