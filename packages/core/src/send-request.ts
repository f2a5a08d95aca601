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

/** What the sender wants to hear of the message's further way (RFC 3461). Asked for where the server offers DSN. */
export const deliveryNotificationSchema = z.strictObject({
  notify: z.union([z.literal('never'), z.array(z.enum(['success', 'failure', 'delay'])).min(1)]).optional(),
  /** Whether a notification carries the whole message or its header. */
  return: z.enum(['full', 'headers']).optional(),
  /** Comes back in notifications: 100 characters of printable ASCII at most. */
  envelopeId: z
    .string()
    .regex(/^[!-~]{1,100}$/, 'printable ASCII without spaces, at most 100 characters')
    .optional(),
});
export type DeliveryNotification = z.output<typeof deliveryNotificationSchema>;

/** How a request is carried out, apart from what is sent and where. */
export const sendPolicySchema = z.strictObject({
  /** Closes the session after the send instead of keeping it for the next one. */
  closeSession: z.boolean().default(false),
  /** Halts the flow when the send fails. */
  stopOnError: z.boolean().default(true),
  store: storeResultSchema.optional(),
  /** `fail` sends to nobody when a recipient is refused; `accept` sends to the others (status `partial`). */
  onPartial: z.enum(['accept', 'fail']).default('accept'),
  dsn: deliveryNotificationSchema.optional(),
  /** Demands that the message travels over TLS all the way, or not at all (RFC 8689). */
  requireTls: z.boolean().optional(),
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
