import {
  isMailError,
  type MailError,
  type MailErrorJson,
  noTimings,
  type RejectedRecipient,
  type SendReceipt,
} from '@flowpost/core';
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

/** What an error says of recipients: whom the server refused, and who has the message or may have it. */
export interface RecipientDetails {
  readonly rejected?: readonly RejectedRecipient[];
  readonly accepted?: readonly string[];
  readonly unconfirmed?: readonly string[];
  readonly delivered?: SendReceipt;
  readonly messageId?: string;
}
/** No answer is no refusal. */
const unanswered = (address: string): RejectedRecipient => ({ address, code: 0, reply: '' });

/** What an error says of recipients; nothing where it says nothing. */
export const recipientsIn = ({ details }: Pick<MailErrorJson, 'details'>): RecipientDetails => details ?? {};

/**
 * What some have for sure, when a doubt is about others: of a message that went out in several parts, or to a server that
 * answers for each recipient (LMTP) and was lost in between. Undefined when nobody has it for sure.
 */
export function receiptInDoubt(doubt: Pick<MailErrorJson, 'details'>): SendReceipt | undefined {
  const { delivered, accepted = [], rejected = [], unconfirmed = [], messageId = '' } = recipientsIn(doubt);
  if (delivered || accepted.length === 0) return delivered;
  return {
    ...{
      status: 'partial',
      messageId,
      accepted,
      response: '',
      attempts: 1,
      timings: noTimings,
      sizeBytes: 0,
    },
    rejected: [...rejected, ...unconfirmed.map(unanswered)],
  };
}

/** Whom a receipt leaves open: those who were put off, and those of whom there is no answer. */
export const openIn = ({ rejected }: SendReceipt): string[] =>
  rejected.filter((one) => one.code === 0 || isRefusedForNow(one)).map(({ address }) => address);

/** For whom a message is still to be sent after a failed attempt for some: without those who have it, or were refused for good. */
export function leftOver(asked: readonly string[], error: Pick<MailErrorJson, 'details'>): string[] {
  const { rejected = [], accepted = [] } = recipientsIn(error);
  const done = new Set([
    ...accepted,
    ...rejected.filter((one) => !isRefusedForNow(one)).map((one) => one.address),
  ]);
  return asked.filter((address) => !done.has(address));
}

/**
 * One receipt of a message that was handed over again for some of its recipients (`onlyTo`).
 *
 * @param earlier what was known before.
 * @param again whom it was handed over for again.
 * @param outcome the receipt of that, or what it failed with. An error that names recipients says what became of them; any
 *   other changes nothing about what is known.
 */
export function continuedReceipt(
  earlier: SendReceipt,
  again: readonly string[],
  outcome: SendReceipt | MailError,
): SendReceipt {
  const later = isMailError(outcome) ? namedIn(earlier, again, outcome) : outcome;
  // Of those that an error does not name nothing new is known.
  const named = new Set(
    isMailError(outcome) ? [...later.accepted, ...later.rejected.map(({ address }) => address)] : again,
  );
  if (named.size === 0) return earlier;
  const news = new Map(later.rejected.map((one) => [one.address, one]));
  // In the order they had before.
  const known = earlier.rejected.flatMap((one) =>
    named.has(one.address) ? (news.get(one.address) ?? []) : one,
  );
  const rejected = [...new Set([...known, ...later.rejected])];
  return {
    ...later,
    status: rejected.length > 0 ? 'partial' : 'sent',
    accepted: [...new Set([...earlier.accepted, ...later.accepted])],
    rejected,
  };
}

function namedIn(earlier: SendReceipt, again: readonly string[], error: MailError): SendReceipt {
  const { accepted = [], rejected = [], unconfirmed = again } = recipientsIn(error);
  const open = error.inDoubt ? unconfirmed.map(unanswered) : [];
  return { ...earlier, accepted, rejected: [...rejected, ...open] };
}
