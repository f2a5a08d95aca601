import { addressKey, type MailErrorJson, noTimings, type SendReceipt, toWireAddress } from '@flowpost/core';
import { continuedReceipt, recipientsIn } from '@flowpost/transport';
import type { DeliveryState } from './delivery.ts';

/** What is known of a delivery about which somebody decides. */
export interface Undecided {
  readonly state: DeliveryState;
  readonly message_id: string;
  readonly recipients: readonly string[];
  readonly attempts: number;
  readonly receipt: SendReceipt | null;
  readonly error: MailErrorJson | null;
  readonly retry_to: readonly string[] | null;
}

/** What becomes of it. */
export interface Decision {
  readonly state: DeliveryState;
  readonly receipt: SendReceipt | null;
  readonly error: MailErrorJson | null;
  readonly retryTo: readonly string[] | null;
}

/** Everybody once, as the server is told about them. */
const onTheWire = (recipients: readonly string[]): string[] => [
  ...new Map(recipients.map((address) => [addressKey(address), toWireAddress(address)])).values(),
];

/** Who may have it, and has not for sure: whom the doubt names, or whom the last attempt was for. */
function inDoubt(found: Undecided): string[] {
  const { unconfirmed, rejected = [] } = recipientsIn(found.error ?? {});
  // What names nobody is not about those who were refused.
  const refused = unconfirmed ? [] : rejected.map(({ address }) => address);
  const done = new Set([...(found.receipt?.accepted ?? []), ...refused]);
  const asked = unconfirmed ?? found.retry_to ?? found.recipients;
  return onTheWire(asked).filter((address) => !done.has(address));
}

/** The receipt of what somebody says was delivered: to those about whom there was doubt, and to nobody else. */
function saidToBeSent(found: Undecided): SendReceipt {
  const { message_id, attempts, receipt } = found;
  const accepted = inDoubt(found);
  const sent: SendReceipt = {
    ...{ status: 'sent', messageId: message_id, accepted, rejected: [], response: 'resolved as sent' },
    ...{ attempts, timings: noTimings, sizeBytes: receipt?.sizeBytes ?? 0 },
  };
  // A receipt knows what became of the others.
  if (receipt) return continuedReceipt(receipt, accepted, sent);
  const { rejected = [] } = recipientsIn(found.error ?? {});
  const others = rejected.filter(({ address }) => !accepted.includes(address));
  return others.length > 0 ? { ...sent, status: 'partial', rejected: others } : sent;
}

/** For whom it is sent again: those in doubt and those who were put off; where a person says so, all who were refused. */
function openFor(found: Undecided, { rejected }: SendReceipt): string[] {
  const refused = rejected.map(({ address }) => address);
  if (found.state !== 'in-doubt') return refused;
  const open = [...new Set([...inDoubt(found), ...(found.retry_to ?? [])])];
  return open.length > 0 ? open : refused;
}

const notSent = (error: MailErrorJson): MailErrorJson => ({
  ...error,
  inDoubt: false,
  hint: 'It was in doubt, and somebody said that it was not sent.',
});

/** What becomes of a delivery when somebody decides; what some have already stays delivered. */
export function decide(found: Undecided, to: DeliveryState): Decision {
  const { state, receipt, retry_to } = found;
  // Whoever says what it was ends the doubt; whoever cancels it does not.
  const error = found.error?.inDoubt && state === 'in-doubt' ? notSent(found.error) : found.error;
  if (to === 'sent') {
    const sent = saidToBeSent(found);
    return {
      state: sent.status === 'partial' ? 'partial' : 'sent',
      receipt: sent,
      error: null,
      retryTo: null,
    };
  }
  if (to === 'queued') {
    return { state: to, receipt, error, retryTo: receipt ? openFor(found, receipt) : retry_to };
  }
  if (error?.inDoubt) return { state: 'in-doubt', receipt, error, retryTo: retry_to };
  return { state: receipt ? 'partial' : to, receipt, error, retryTo: retry_to };
}
