import { connectionSchema, emailMessageSchema, sendPolicySchema, singleAddressSchema } from '@flowpost/core';
import { z } from 'zod';

/**
 * The settings of the `send-email` node: a connection, the fields of a message, and how the send is carried out,
 * side by side.
 */
export const sendEmailSettingsSchema = z.strictObject({
  connection: connectionSchema,
  ...emailMessageSchema.shape,
  /** May be left out when the connection has a From address. */
  from: singleAddressSchema.optional(),
  ...sendPolicySchema.shape,
});

export type SendEmailSettings = z.input<typeof sendEmailSettingsSchema>;
