import type { MailError, MailErrorJson, SendReceipt } from '@flowpost/core';
import { findNode } from '@flowpost/node-adapter';
import {
  beyondLimit,
  continuedReceipt,
  leftOver,
  openIn,
  receiptInDoubt,
  refusedForNow,
  Unconfirmed,
} from '@flowpost/transport';
import { isSealedElsewhere } from '../security/sealed-elsewhere.ts';
import { nextAttemptAt } from './backoff.ts';
import type { ClaimedDelivery, Settlement } from './delivery.ts';

/** What beside the attempt decides about a delivery. */
export interface Circumstances {
  /** Whether it may be put back into the queue. Not when somebody waits for the outcome. */
  readonly keepsTrying: boolean;
  /** How long a delivery is tried, in milliseconds. */
  readonly retryForMs: number;
  /** Whether this process ends what is under way. */
  readonly isGoingDown?: boolean;
}

/**
 * Another server may have the key, or this one has to be started anew, so looking for it again and again is no use. Nor is
 * it to wait for hours when the key is there at last: it is looked for as after the fifth attempt, four times an hour.
 */
const mostLooks = 5;

/** What becomes of a delivery that was taken: whom it was refused for now gets it later, and nobody else. */
export function settlementOf(
  { id, attempt, tries, triedSince, again: earlier, doubt }: ClaimedDelivery,
  receipt: SendReceipt,
  { keepsTrying, retryForMs }: Circumstances,
): Settlement {
  const isPartial = receipt.status === 'partial';
  // Whom it was in doubt for and who still has no receipt may have it all the same.
  const unconfirmed = doubt && new Unconfirmed().add(doubt, earlier?.to).resolve(receipt);
  const error = doubt && unconfirmed?.any ? withDetails(doubt, unconfirmed.details()) : undefined;
  const more = keepsTrying && isPartial ? beyondLimit(receipt, earlier?.delivered.accepted.length ?? 0) : [];
  // The server took as many as it takes, which was no attempt in vain.
  if (more.length > 0) {
    const nextAt = Date.now();
    return { id, attempt, state: 'queued', receipt, error, retryTo: more, nextAt, uncounted: true };
  }
  const retryTo = keepsTrying && isPartial ? refusedForNow(receipt) : [];
  const again = { attempt: tries, triedSince, now: Date.now() };
  const nextAt = retryTo.length > 0 ? nextAttemptAt(again, { forMs: retryForMs }) : undefined;
  if (nextAt !== undefined) return { id, attempt, state: 'queued', receipt, error, retryTo, nextAt };
  if (error) return { id, attempt, state: 'in-doubt', receipt, error, retryTo };
  return { id, attempt, state: isPartial ? 'partial' : 'sent', receipt };
}

const withDetails = (doubt: MailErrorJson, details: object): MailErrorJson => ({
  ...doubt,
  details: { ...doubt.details, ...details },
});

/** What becomes of a delivery whose attempt failed: decided by doubt and by whether trying again is safe, and by nothing else. */
export function judge(claim: ClaimedDelivery, error: MailError, circumstances: Circumstances): Settlement {
  return withEarlier(ofAttempt(claim, error, circumstances), claim, error);
}

/** The error in the words of the node's platform, as far as it says so without the settings. */
function described(error: MailError, nodeType: string): MailErrorJson {
  try {
    return findNode(nodeType).describeError(error);
  } catch {
    return error.toJSON();
  }
}

function ofAttempt(
  { id, attempt, tries, triedSince, request, doubt, nodeType }: ClaimedDelivery,
  error: MailError,
  { keepsTrying, retryForMs, isGoingDown = false }: Circumstances,
): Settlement {
  // Another process, or this one started again, will see to it.
  if (keepsTrying && error.category === 'cancelled' && isGoingDown)
    return { id, attempt, state: 'queued', uncounted: true };
  // Somebody took this process for dead, so it did not begin. Where it was cancelled instead, nobody asks what becomes of it.
  if (keepsTrying && error.code === 'DELIVERY_CANCELLED')
    return { id, attempt, state: 'queued', error: doubt, uncounted: true, refutesDoubt: true };
  const json = described(error, nodeType);
  // What is in doubt is another delivery. Of this one nothing was sent.
  if (error.code === 'DUPLICATE_IN_DOUBT')
    return { id, attempt, state: 'failed', error: { ...json, inDoubt: false } };
  const resends = request.policy.onDoubt === 'resend';
  const receipt = error.inDoubt ? receiptInDoubt(error) : undefined;
  const confirmed = receipt && { receipt, retryTo: openIn(receipt) };
  if (error.inDoubt && !(keepsTrying && resends))
    return { id, attempt, state: 'in-doubt', error: json, ...confirmed };
  if (!keepsTrying || !(error.retryable || error.inDoubt))
    return { id, attempt, state: 'failed', error: json };
  const { retryAfterMs } = error.details;
  // What our own database could not do says nothing about the mail server, so it counts for nothing.
  const isOurs = error.code === 'STORAGE_UNAVAILABLE';
  const nextAt = nextAttemptAt(
    {
      attempt: isSealedElsewhere(error) ? Math.min(attempt, mostLooks) : isOurs ? 1 : tries,
      ...{ triedSince, now: Date.now() },
      retryAfterMs: typeof retryAfterMs === 'number' ? retryAfterMs : undefined,
    },
    { forMs: retryForMs },
  );
  const ends = { id, attempt, error: json, ...confirmed };
  if (nextAt === undefined) return { ...ends, state: error.inDoubt ? 'in-doubt' : 'failed' };
  return { ...ends, state: 'queued', nextAt, uncounted: isOurs };
}

/** What earlier attempts did is not undone by one that failed: what some have they have, and what was in doubt is still. */
function withEarlier(
  settlement: Settlement,
  { again, doubt, tries }: ClaimedDelivery,
  error: MailError,
): Settlement {
  let { state, error: failure, receipt, retryTo } = settlement;
  if (again && !settlement.uncounted) {
    receipt = { ...continuedReceipt(again.delivered, again.to, error), attempts: tries };
    retryTo = leftOver(again.to, error);
    if (state === 'failed') state = 'partial';
  }
  if (doubt && error.inDoubt && failure) {
    const unconfirmed = new Unconfirmed().add(doubt).add(failure, again?.to);
    failure = withDetails(failure, (receipt ? unconfirmed.resolve(receipt) : unconfirmed).details());
  }
  if (doubt && !error.inDoubt) {
    if (failure && failure !== doubt)
      failure = { ...doubt, details: { ...doubt.details, lastFailure: failure } };
    else failure = doubt;
    if (state !== 'queued') state = 'in-doubt';
  }
  return { ...settlement, state, error: failure, receipt, retryTo };
}
