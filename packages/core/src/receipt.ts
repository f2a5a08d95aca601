/** A recipient the server refused, with its reply. */
export interface RejectedRecipient {
  readonly address: string;
  /** The reply code, such as 550. */
  readonly code: number;
  /** The whole reply, with the enhanced status code when there is one. */
  readonly reply: string;
}

/** How long the parts of one send took, in milliseconds. Zero for a session that was already open. */
export interface SendTimings {
  /** Waiting for a free session, opening one included. */
  readonly sessionMs: number;
  readonly composeMs: number;
  /** From MAIL FROM to the server's last reply. */
  readonly deliverMs: number;
  readonly totalMs: number;
}

/** The timings of what was not sent by us, or not yet. */
export const noTimings: SendTimings = { sessionMs: 0, composeMs: 0, deliverMs: 0, totalMs: 0 };

/**
 * What was delivered. `sent`: the server took the message for every recipient. `partial`: for some of them;
 * `rejected` names the others. `duplicate`: nothing was sent now, this is the receipt of an earlier send.
 * `queued`: stored for delivery, not sent yet.
 */
export interface SendReceipt {
  readonly status: 'sent' | 'partial' | 'duplicate' | 'queued';
  /** The Message-ID header, in angle brackets. */
  readonly messageId: string;
  readonly accepted: readonly string[];
  readonly rejected: readonly RejectedRecipient[];
  /** The server's reply to the message. */
  readonly response: string;
  /** The id the server gave the message, when it said so in a known form. */
  readonly serverMessageId?: string;
  /** Whether the server was asked for the delivery notifications (`dsn`) that were wanted; not every one offers them. */
  readonly notifications?: 'requested' | 'not-offered';
  /** How many times delivery was tried, this one included. */
  readonly attempts: number;
  readonly timings: SendTimings;
  /** Size of the message as sent, in bytes, before dot-stuffing. */
  readonly sizeBytes: number;
}
