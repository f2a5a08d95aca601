import { z } from 'zod';
import type { Connection } from './connection.ts';
import type { EmailMessage } from './message.ts';
import { longestTimerMs } from './ports/clock.ts';

/** Where the outcome is put in the flow's data: `key` is a path of names joined by dots. */
export const storeResultSchema = z.strictObject({
  target: z.enum(['input', 'context']),
  key: z.string().min(1),
});
export type StoreResult = z.output<typeof storeResultSchema>;

/** How a request is carried out, apart from what is sent and where. */
export const sendPolicySchema = z.strictObject({
  /** Closes the session after the send instead of keeping it for the next one. */
  closeSession: z.boolean().default(false),
  /** Halts the flow when the send fails. */
  stopOnError: z.boolean().default(true),
  store: storeResultSchema.optional(),
  /** `fail` sends to nobody when a recipient is refused; `accept` sends to the others (status `partial`). */
  onPartial: z.enum(['accept', 'fail']).default('accept'),
  /** Time for the whole send, in milliseconds; default no limit but those of its phases. */
  timeoutMs: z.number().int().positive().max(longestTimerMs).optional(),
});
export type SendPolicy = z.output<typeof sendPolicySchema>;

/** What every dialect's settings are mapped onto: what to send, over what, and how. */
export interface SendRequest {
  readonly message: EmailMessage;
  readonly connection: Connection;
  readonly policy: SendPolicy;
}
