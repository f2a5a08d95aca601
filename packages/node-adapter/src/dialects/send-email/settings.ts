import {
  type ConnectionInput,
  connectionSchema,
  emailMessageSchema,
  sendPolicySchema,
  singleAddressSchema,
} from '@flowpost/core';
import { z } from 'zod';
import { asChoice, asFlag, asNumber, asObject, asText, asTlsOptions, isBlank } from '../fields.ts';

const fields = z.strictObject({
  connection: connectionSchema,
  ...emailMessageSchema.shape,
  /** May be left out when the connection has a From address. */
  from: singleAddressSchema.optional(),
  ...sendPolicySchema.shape,
});

/** Fields that forms may leave empty. */
const mayBeEmpty = [
  ...(['replyTo', 'to', 'cc', 'bcc', 'subject', 'priority', 'attachments'] as const),
  ...(['from', 'sender', 'html', 'text', 'messageId', 'date', 'inReplyTo', 'autoSubmitted'] as const),
  ...(['calendar', 'unsubscribe', 'headers', 'references', 'store', 'duplicateWindowMs'] as const),
  ...(['idempotencyKey', 'timeoutMs', 'dsn', 'requireTls', 'sandbox', 'retry', 'onPartial'] as const),
  ...(['onDoubt', 'stopOnError', 'async', 'closeSession', 'loopGuard'] as const),
];
type MayBeEmpty = (typeof mayBeEmpty)[number];

const asNumbers = (names: readonly string[]) =>
  asObject(Object.fromEntries(names.map((name) => [name, asNumber])));

const readAttachment = asObject(
  { filename: asText, content: asText, contentType: asText, contentId: asText },
  // An empty file is one.
  { keeps: ['content', 'raw'] },
);
const readHeaders = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(
        Object.entries(value).map(([name, one]) => [
          name,
          Array.isArray(one) ? one.map(asText) : asText(one),
        ]),
      )
    : value;
const readConnection = asObject({
  ...{ port: asNumber, tlsOptions: asTlsOptions, allowPlaintextAuth: asFlag },
  dkim: asObject({}, { mayBeAbsent: true }),
  limits: asNumbers(['connections', 'messageBytes', 'messagesPerMinute', 'idleMs', 'lifetimeMs']),
  timeouts: asNumbers(['connectMs', 'greetingMs', 'commandMs', 'dataMs', 'confirmMs']),
  auth: asObject(
    { expiresAt: asNumber, exchangeRbac: asFlag },
    // A certificate may have an empty password.
    { keeps: ['certificatePassword'], mayBeAbsent: true },
  ),
});
/** A list of one address, or of none. */
const readSingle = (value: unknown): unknown =>
  Array.isArray(value) && value.length === 0 ? undefined : value;

/** Fields that forms and the flow hand over as text, or as a number where text is meant. */
const readers = new Map<string, (value: unknown) => unknown>([
  ...['subject', 'html', 'text', 'idempotencyKey'].map((name) => [name, asText] as const),
  ...['stopOnError', 'async', 'closeSession', 'loopGuard', 'requireTls'].map(
    (name) => [name, asFlag] as const,
  ),
  ...['duplicateWindowMs', 'timeoutMs'].map((name) => [name, asNumber] as const),
  ...['priority', 'onPartial', 'onDoubt'].map((name) => [name, asChoice] as const),
  ['retry', asNumbers(['attempts', 'firstDelayMs', 'longestDelayMs'])],
  ['attachments', (value) => (Array.isArray(value) ? value.map(readAttachment) : value)],
  ['headers', readHeaders],
  ...['unsubscribe', 'store', 'dsn', 'calendar', 'references'].map(
    (name) => [name, asObject({}, { mayBeAbsent: true })] as const,
  ),
  ['sandbox', asObject()],
  ...['from', 'sender'].map((name) => [name, readSingle] as const),
]);

/** Forms hand over empty text, or null, for a field left empty, and text for what is none. */
function asMeant(settings: unknown): unknown {
  if (typeof settings !== 'object' || settings === null) return settings;
  const given = settings as Record<string, unknown>;
  const changed: Record<string, unknown> = {};
  for (const name of mayBeEmpty) {
    const value = given[name];
    if (value === undefined) continue;
    const read = readers.get(name);
    const meant = isBlank(value) ? undefined : read ? read(value) : value;
    if (meant !== value) changed[name] = meant;
  }
  const connection = readConnection(given.connection);
  if (connection !== given.connection) changed.connection = connection;
  return Object.keys(changed).length === 0 ? settings : { ...given, ...changed };
}

/**
 * The settings of the `send-email` node: a connection, the fields of a message, and how the send is carried out,
 * side by side.
 */
export const sendEmailSettingsSchema = z.preprocess(asMeant, fields);

type Input = z.input<typeof fields>;
/** The settings of `send-email`, as a flow author writes them. */
export type SendEmailSettings = Omit<Input, 'connection' | MayBeEmpty> & {
  readonly connection: ConnectionInput;
} & { readonly [Key in MayBeEmpty]?: Input[Key] | '' | null };
