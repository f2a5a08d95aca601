import {
  type ConnectionInput,
  connectionSchema,
  emailMessageSchema,
  sendPolicySchema,
  singleAddressSchema,
} from '@flowpost/core';
import { z } from 'zod';

const fields = z.strictObject({
  connection: connectionSchema,
  ...emailMessageSchema.shape,
  /** May be left out when the connection has a From address. */
  from: singleAddressSchema.optional(),
  ...sendPolicySchema.shape,
});

/** Fields that forms may leave empty. */
const mayBeEmpty = [
  ...(['replyTo', 'to', 'cc', 'bcc', 'subject', 'priority'] as const),
  ...(['from', 'sender', 'html', 'text', 'messageId', 'date', 'inReplyTo', 'autoSubmitted'] as const),
  ...(['calendar', 'unsubscribe', 'headers', 'references', 'store', 'duplicateWindowMs'] as const),
  ...(['idempotencyKey', 'timeoutMs', 'dsn', 'requireTls', 'sandbox'] as const),
];
/** Fields of text; the flow may have a number for them. */
const texts = ['subject', 'html', 'text', 'idempotencyKey'] as const;
type MayBeEmpty = (typeof mayBeEmpty)[number];

const isEmpty = (value: unknown): boolean => value === '' || value === null;

/** Forms hand over empty text, or null, for a field left empty. */
function withoutEmpty(settings: unknown): unknown {
  if (typeof settings !== 'object' || settings === null) return settings;
  const given = settings as Record<string, unknown>;
  const empty = mayBeEmpty.filter((key) => isEmpty(given[key]));
  const scalars = texts.filter((key) => ['number', 'boolean', 'bigint'].includes(typeof given[key]));
  if (empty.length + scalars.length === 0) return settings;
  return {
    ...given,
    ...Object.fromEntries(empty.map((key) => [key, undefined])),
    ...Object.fromEntries(scalars.map((key) => [key, String(given[key])])),
  };
}

/**
 * The settings of the `send-email` node: a connection, the fields of a message, and how the send is carried out,
 * side by side.
 */
export const sendEmailSettingsSchema = z.preprocess(withoutEmpty, fields);

type Input = z.input<typeof fields>;
export type SendEmailSettings = Omit<Input, 'connection' | MayBeEmpty> & {
  readonly connection: ConnectionInput;
} & { readonly [Key in MayBeEmpty]?: Input[Key] | '' | null };
