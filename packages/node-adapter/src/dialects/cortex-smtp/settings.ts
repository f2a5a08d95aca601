import { hostSchema } from '@flowpost/core';
import { z } from 'zod';
import { cortexMessageSchema } from '../cortex/email-message.ts';
import { encryptable, encrypted, notNull, report, text } from '../cortex/properties.ts';
import { asNumber, flag, tlsOptionsSetting } from '../fields.ts';

const port = notNull(
  z.preprocess(asNumber, z.number()) as unknown as z.ZodType<number, number | string>,
).transform((value, context) =>
  Number.isInteger(value) && value >= 1 && value <= 65535
    ? value
    : report(context, 'out-of-range', 'it must be from 1 to 65535'),
);

const host = text().transform((value, context) =>
  hostSchema.safeParse(value).success
    ? value
    : report(context, 'host', 'it must be a host name or address and nothing else', { host: value }),
);

const serverDetails = z.strictObject({
  Host: host,
  Port: port,
  /** TLS from the first byte; without it STARTTLS, where the server offers it. */
  UseSsl: flag(false),
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
  CloseSession: flag(false),
  /** Ours: a private authority, or a pinned certificate. */
  TlsOptions: tlsOptionsSetting,
  /** Ours: lets credentials travel in clear to another machine. */
  AllowPlaintextAuth: flag(false),
});

/** The properties of the block, as a flow author writes them. */
export type CortexSmtpSettings = z.input<typeof cortexSmtpSettingsSchema>;
