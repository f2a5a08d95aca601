import { z } from 'zod';
import { singleAddressSchema } from './address.ts';
import type { Connection } from './connection.ts';
import type { EmailMessage } from './message.ts';
import { longestTimerMs } from './ports/clock.ts';

/** Where the outcome is put in the flow's data: `key` is a path of names joined by dots. */
export const storeResultSchema = z.strictObject({
  target: z.enum(['input', 'context']),
  key: z.string().min(1),
});
/** Where in the data of a flow the outcome is kept, and under which name. */
export type StoreResult = z.output<typeof storeResultSchema>;

/** What the sender wants to hear of the message's further way (RFC 3461). Asked for where the server offers DSN; the receipt tells. */
export const deliveryNotificationSchema = z.strictObject({
  notify: z
    .union([z.literal('never'), z.array(z.enum(['success', 'failure', 'delay'])).min(1)], {
      error: 'it must be "never", or a list of "success", "failure" and "delay"',
    })
    .optional(),
  /** Whether a notification carries the whole message or its header. */
  return: z.enum(['full', 'headers']).optional(),
  /** Comes back in notifications: 100 characters of printable ASCII at most. */
  envelopeId: z
    .string()
    .regex(/^[!-~]{1,100}$/, 'printable ASCII without spaces, at most 100 characters')
    .optional(),
});
/** Which reports of the further way of a message are asked for (RFC 3461). */
export type DeliveryNotification = z.output<typeof deliveryNotificationSchema>;

/** How often a send that may succeed later is tried within one run. */
const retrySchema = z.strictObject({
  /** How often to try at all; 1 is not again. */
  attempts: z.number().int().min(1).max(20).default(3),
  /** The longest first wait in milliseconds; it doubles each time. */
  firstDelayMs: z.number().int().min(0).max(longestTimerMs).default(1_000),
  /** No wait is longer; what a server asks for beyond it ends the attempts. */
  longestDelayMs: z.number().int().min(0).max(longestTimerMs).default(60_000),
});

/** Keeps mail from real people while a flow is tried out. */
const sandboxSchema = z
  .strictObject({
    /** Everything goes to this mailbox instead; the header X-Original-Recipients names whom it was for. */
    redirectTo: singleAddressSchema.optional(),
    /** Domains mail may go to; whatever else is addressed fails the send. */
    allowDomains: z.array(z.string().min(1).toLowerCase()).min(1).optional(),
  })
  .refine(({ redirectTo, allowDomains }) => (redirectTo === undefined) !== (allowDomains === undefined), {
    error: 'give either redirectTo or allowDomains',
  });
/** To whom messages go instead, or to which domains they may go at all. */
export type Sandbox = z.output<typeof sandboxSchema>;

/** How a request is carried out, apart from what is sent and where. */
export const sendPolicySchema = z.strictObject({
  /** Closes the session after the send instead of keeping it for the next one. */
  closeSession: z.boolean().default(false),
  /** Halts the flow when the send fails. */
  stopOnError: z.boolean().default(true),
  store: storeResultSchema.optional(),
  /** `fail` sends to nobody when a recipient is refused; `accept` sends to the others (status `partial`). */
  onPartial: z.enum(['accept', 'fail']).default('accept'),
  /** Lets the flow go on at once; the message is sent in the background, and the outcome reported when it is there. */
  async: z.boolean().default(false),
  retry: retrySchema.prefault({}),
  /** `resend` sends a message whose delivery is in doubt again, as the same message; `hold` never does. */
  onDoubt: z.enum(['hold', 'resend']).default('hold'),
  /** How long the same content is sent once only, in milliseconds; 0 or left out: no limit to how often. */
  duplicateWindowMs: z.number().int().min(0).max(longestTimerMs).optional(),
  /** Names what is to be sent once, within a day unless `duplicateWindowMs` says otherwise; makes the Message-ID. */
  idempotencyKey: z.string().min(1).max(200).optional(),
  /** In a flow that an e-mail started: refuses to send to where it came from, or to answer automatic mail. */
  loopGuard: z.boolean().default(true),
  sandbox: sandboxSchema.optional(),
  dsn: deliveryNotificationSchema.optional(),
  /** Demands that the message travels over TLS all the way, or not at all (RFC 8689). */
  requireTls: z.boolean().optional(),
  /** Time for the whole send, in milliseconds; default no limit but those of its phases. */
  timeoutMs: z.number().int().positive().max(longestTimerMs).optional(),
});
/** How a request is carried out: retries, doubt, refused recipients, duplicates and time. */
export type SendPolicy = z.output<typeof sendPolicySchema>;

/** What every dialect's settings are mapped onto: what to send, over what, and how. */
export interface SendRequest {
  readonly message: EmailMessage;
  readonly connection: Connection;
  readonly policy: SendPolicy;
}
