import type { MailErrorJson, SendReceipt } from '@flowpost/core';
import { storable } from '../database/storable.ts';
import type { ClaimedDelivery, NewDelivery, StoredRequest } from './delivery.ts';

/** A delivery on its way into the database. */
export interface DeliveryRow {
  readonly delivery: NewDelivery;
  /** Its columns, in JSON. */
  readonly json: string;
}

type Attachments = StoredRequest['message']['attachments'];

/**
 * What was read when a message was taken in is written as base64, which every version of this understands, with the places of such
 * attachments beside it: for the duplicate guard they are something else than what its author wrote in base64.
 */
function writtenRequest({ message, ...rest }: StoredRequest): object {
  const { attachments } = message;
  const read = attachments?.flatMap(({ kind }, place) => (kind === 'bytes' ? [place] : [])) ?? [];
  if (read.length === 0) return { ...rest, message };
  const written: Attachments = attachments?.map((one) =>
    one.kind === 'bytes'
      ? { ...one, kind: 'base64', content: Buffer.from(one.content).toString('base64') }
      : one,
  );
  return { ...rest, message: { ...message, attachments: written }, read };
}

/** A request out of its column. */
export function readRequest({
  message,
  read = [],
  ...rest
}: StoredRequest & { readonly read?: readonly number[] }): StoredRequest {
  if (read.length === 0) return { ...rest, message };
  const attachments: Attachments = message.attachments?.map((one, place) =>
    one.kind === 'base64' && read.includes(place)
      ? { ...one, kind: 'bytes', content: Buffer.from(one.content, 'base64') }
      : one,
  );
  return { ...rest, message: { ...message, attachments } };
}

/** Of what is sent at once. */
export const firstAttempt = 1;

/**
 * Those that are to be sent by this process at once begin as `sending`, the others as `queued`.
 *
 * @param worker this process.
 */
export function rowOf(delivery: NewDelivery, worker: string): DeliveryRow {
  const isSync = delivery.mode === 'sync';
  const json = storable({
    ...{ id: delivery.id, mode: delivery.mode, node_type: delivery.nodeType, node_id: delivery.nodeId },
    ...{
      state: isSync ? 'sending' : 'queued',
      attempt: isSync ? firstAttempt : 0,
      worker: isSync ? worker : null,
    },
    ...{ message_id: delivery.messageId, recipients: delivery.recipients, subject: delivery.subject },
    ...{
      request: writtenRequest(delivery.request),
      connection_id: delivery.connectionId,
      sealed: delivery.sealed,
    },
    ...{ lane: delivery.lane, store: delivery.store, api_key: delivery.apiKey },
    ...{ idempotency_key: delivery.idempotencyKey, body_hash: delivery.bodyHash },
  });
  return { delivery, json: `${json.slice(0, -1)},"bytes":${json.length}}` };
}

/** A delivery with its request, as it is taken out of the queue. */
export interface ClaimedRow {
  readonly id: string;
  readonly bytes: number;
  readonly attempt: number;
  readonly tries: number;
  readonly mode: 'sync' | 'async';
  readonly node_type: string;
  readonly node_id: string;
  readonly message_id: string;
  readonly request: StoredRequest;
  readonly sealed: string | null;
  readonly isStored: boolean;
  readonly lane: string;
  /** Since its first attempt, in milliseconds. */
  readonly tried_for: number;
  readonly retry_to: readonly string[] | null;
  readonly receipt: SendReceipt | null;
  readonly error: MailErrorJson | null;
}

export const claimedOf = (row: ClaimedRow): ClaimedDelivery => ({
  ...{ id: row.id, attempt: row.attempt, tries: row.tries, mode: row.mode, bytes: row.bytes },
  ...{ nodeType: row.node_type, nodeId: row.node_id, messageId: row.message_id, lane: row.lane },
  ...{ request: readRequest(row.request), sealed: row.sealed, isStored: row.isStored },
  triedSince: Date.now() - row.tried_for,
  ...(row.error?.inDoubt && { doubt: row.error }),
  ...(row.receipt && row.retry_to && { again: { delivered: row.receipt, to: row.retry_to } }),
});
