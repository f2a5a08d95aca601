import {
  type ConnectionInput,
  connectionSchema,
  emailMessageSchema,
  sendPolicySchema,
  singleAddressSchema,
} from '@flowpost/core';
import { z } from 'zod';
import { leftEmpty } from '../fields.ts';

const message = emailMessageSchema.shape;
const policy = sendPolicySchema.shape;

/**
 * The settings of the `send-email` node: a connection, the fields of a message, and how the send is carried out,
 * side by side.
 */
export const sendEmailSettingsSchema = z.strictObject({
  connection: connectionSchema,
  ...message,
  /** May be left out when the connection has a From address. */
  from: leftEmpty(singleAddressSchema.optional()),
  sender: leftEmpty(message.sender),
  html: leftEmpty(message.html),
  text: leftEmpty(message.text),
  messageId: leftEmpty(message.messageId),
  date: leftEmpty(message.date),
  inReplyTo: leftEmpty(message.inReplyTo),
  autoSubmitted: leftEmpty(message.autoSubmitted),
  ...policy,
  store: leftEmpty(policy.store),
  duplicateWindowMs: leftEmpty(policy.duplicateWindowMs),
  idempotencyKey: leftEmpty(policy.idempotencyKey),
  timeoutMs: leftEmpty(policy.timeoutMs),
});

export type SendEmailSettings = Omit<z.input<typeof sendEmailSettingsSchema>, 'connection'> & {
  readonly connection: ConnectionInput;
};
