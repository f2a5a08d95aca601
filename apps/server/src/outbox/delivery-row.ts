import { storable } from '../database/storable.ts';
import type { NewDelivery } from './delivery.ts';

/** A delivery on its way into the database. */
export interface DeliveryRow {
  readonly delivery: NewDelivery;
  /** Its columns, in JSON. */
  readonly json: string;
}

/**
 * Those that are to be sent by this process at once begin as `sending`, the others as `queued`.
 *
 * @param worker this process.
 */
export function rowOf(delivery: NewDelivery, worker: string): DeliveryRow {
  const isSync = delivery.mode === 'sync';
  const json = storable({
    ...{ id: delivery.id, mode: delivery.mode, node_type: delivery.nodeType, node_id: delivery.nodeId },
    ...{ state: isSync ? 'sending' : 'queued', attempt: isSync ? 1 : 0, worker: isSync ? worker : null },
    ...{ message_id: delivery.messageId, recipients: delivery.recipients, subject: delivery.subject },
    ...{ request: delivery.request, connection_id: delivery.connectionId, sealed: delivery.sealed },
    ...{ lane: delivery.lane, store: delivery.store, api_key: delivery.apiKey },
    ...{ idempotency_key: delivery.idempotencyKey, body_hash: delivery.bodyHash },
  });
  return { delivery, json };
}
