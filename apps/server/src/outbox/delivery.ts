import type { EmailMessageInput, MailErrorJson, SendPolicy, SendReceipt, StoreResult } from '@flowpost/core';

/**
 * Where a delivery stands. `queued`: waits for its turn, or for its next attempt. `sending`: somebody is at it, and nothing of
 * the message has left. `committing`: the message may be leaving; whoever dies now leaves it in doubt. The others are ends.
 */
export const deliveryStates = [
  'queued',
  'sending',
  'committing',
  'sent',
  'partial',
  'failed',
  'in-doubt',
  'cancelled',
] as const;
export type DeliveryState = (typeof deliveryStates)[number];

/** What is needed to send a message without the flow it came from. */
export interface StoredRequest {
  readonly message: EmailMessageInput;
  readonly policy: SendPolicy;
  readonly unshared: boolean;
  /** What started the flow, for the loop guard. */
  readonly trigger?: Record<string, unknown> | undefined;
}

/** A delivery as it is put in. */
export interface NewDelivery {
  readonly id: string;
  /** `sync`: whoever asked waits for it, and this process sends it at once. `async`: the outbox does. */
  readonly mode: 'sync' | 'async';
  readonly nodeType: string;
  readonly nodeId: string;
  readonly messageId: string;
  readonly recipients: readonly string[];
  readonly subject: string;
  readonly request: StoredRequest;
  /** A stored connection, or one that came with the settings, sealed. */
  readonly connectionId?: string | undefined;
  readonly sealed?: string | undefined;
  /** Who shares a mailbox at a server with it; see `laneOf`. */
  readonly lane: string;
  readonly store?: StoreResult | undefined;
  readonly apiKey: string;
  readonly idempotencyKey?: string | undefined;
  readonly bodyHash?: string | undefined;
  /** One whose process ended before it had begun, which this is asked for again. It gets the idempotency key. */
  readonly replaces?: string | undefined;
}

/** A delivery that somebody is about to send. */
export interface ClaimedDelivery {
  readonly id: string;
  /** How often it was claimed. With this number it belongs to whoever claimed it; no other claim has the same. */
  readonly attempt: number;
  /** How often it was really tried, this time included. */
  readonly tries: number;
  /** How large its message is, as it is stored. */
  readonly bytes: number;
  readonly mode: 'sync' | 'async';
  readonly nodeType: string;
  readonly nodeId: string;
  readonly messageId: string;
  readonly request: StoredRequest;
  /** The sealed connection as it is now; null when a stored one was deleted. */
  readonly sealed: string | null;
  /** Whether an administrator stored it, and it did not come with the settings. */
  readonly isStored: boolean;
  readonly lane: string;
  /** When its first attempt began, or somebody had it tried again, in Unix milliseconds. */
  readonly triedSince: number;
  /** Why it may have been delivered already, when it is sent again all the same. */
  readonly doubt?: MailErrorJson | undefined;
  /** Set when some have it already and it is sent again for others alone. */
  readonly again?: { readonly delivered: SendReceipt; readonly to: readonly string[] } | undefined;
}

/** How an attempt ended. */
export interface Settlement {
  readonly id: string;
  readonly attempt: number;
  readonly state: DeliveryState;
  readonly receipt?: SendReceipt | undefined;
  readonly error?: MailErrorJson | undefined;
  /** For whom it is tried again, when not for all. */
  readonly retryTo?: readonly string[] | undefined;
  /** For `queued`: when it is tried again, in Unix milliseconds. */
  readonly nextAt?: number | undefined;
  /** Nothing was tried: the attempt does not count. */
  readonly uncounted?: boolean | undefined;
  /** This process knows that it sent nothing, whatever was thought of the attempt meanwhile. */
  readonly refutesDoubt?: boolean | undefined;
  /** It was its turn, and is again as soon as there is one. */
  readonly keepsPlace?: boolean | undefined;
}

/** A delivery as it may be shown. */
export interface Delivery {
  readonly id: string;
  readonly state: DeliveryState;
  readonly mode: 'sync' | 'async';
  readonly nodeType: string;
  readonly nodeId: string;
  readonly messageId: string;
  readonly recipients: readonly string[];
  readonly subject: string;
  readonly connectionId: string | null;
  readonly attempt: number;
  readonly nextAt: string | null;
  readonly store: StoreResult | null;
  readonly receipt: SendReceipt | null;
  readonly error: MailErrorJson | null;
  readonly createdAt: string;
  readonly updatedAt: string;
}
