import { tlsOptionsSchema } from '@flowpost/core';
import { z } from 'zod';
import { cortexMessageSchema } from '../cortex/email-message.ts';
import { encryptable, encrypted, notNull, report, text } from '../cortex/properties.ts';

const port = notNull(z.number().int()).transform((value, context) =>
  value >= 1 && value <= 65535 ? value : report(context, 'out-of-range', 'it must be from 1 to 65535'),
);

const serverDetails = z.strictObject({
  Host: text(),
  Port: port,
  /** TLS from the first byte; without it STARTTLS, where the server offers it. */
  UseSsl: z.boolean().nullish(),
});

const userCredentials = z.strictObject({
  /** Not used by this block. */
  Domain: z.string().nullish(),
  Username: encryptable(),
  Password: encrypted(),
});

/** Credentials that are null are a mistake; credentials that are left out are for servers that want none. */
const optionalCredentials = userCredentials
  .nullable()
  .optional()
  .transform((value, context) => (value === null ? report(context, 'null', 'it is null') : value));

/** The properties of the block "Send Email Using SMTP Server". */
export const cortexSmtpSettingsSchema = z.strictObject({
  EmailMessage: notNull(cortexMessageSchema),
  BasicEmailSessionDetails: notNull(
    z.strictObject({ ServerDetails: notNull(serverDetails), Credentials: optionalCredentials }),
  ),
  /** Left blank, false. */
  CloseSession: z
    .boolean()
    .nullish()
    .transform((value) => value ?? false),
  /** Ours: a private authority, or a pinned certificate. */
  TlsOptions: tlsOptionsSchema.optional(),
});

export type CortexSmtpSettings = z.input<typeof cortexSmtpSettingsSchema>;
