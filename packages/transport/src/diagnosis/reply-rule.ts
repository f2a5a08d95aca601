import type { ErrorCode } from '@flowpost/core';

/** What was refused: each has a code for "no" (5yz) and one for "later" (4yz). */
export type Refused = 'greeting' | 'auth' | 'sender' | 'recipients' | 'message';

/**
 * What a known reply means. A reply is recognised by its codes, and where one pair of codes stands for several
 * things, by its text; the text chooses the hint, never whether sending again is safe.
 */
export interface ReplyRule {
  /** Stable name, for logs and for dialects. */
  readonly id: string;
  /** What was refused, where the same reply means something else elsewhere. */
  readonly refused?: Refused | readonly Refused[];
  /** The reply code, such as 535; several when servers differ. */
  readonly code?: number | readonly number[];
  /** The enhanced status code of RFC 3463. */
  readonly enhanced?: string | RegExp;
  readonly text?: RegExp;
  /** What to do, in one or two sentences. */
  readonly hint: string;
  /** Takes the place of the general code of what was refused. */
  readonly errorCode?: ErrorCode;
  /** How long to wait at least before another attempt, where the provider says so. */
  readonly retryAfterMs?: number;
}

export const minute = 60_000;
export const hour = 60 * minute;
export const day = 24 * hour;
