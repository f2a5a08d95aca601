import { tlsOptionsSchema } from '@flowpost/core';
import { z } from 'zod';
import { cortexMessageSchema } from '../cortex/email-message.ts';
import { encryptable, encrypted, notNull } from '../cortex/properties.ts';

const user = { ClientId: encryptable(), TenantId: encryptable(), ObjectId: encryptable() };

/** `Microsoft365OAuthCredentials` */
const clientCredentials = z.strictObject({ ...user, ClientSecret: encrypted() });

/** `Microsoft365OAuthCertificateCredentials` */
const certificateCredentials = z.strictObject({
  ...user,
  /** A .pfx, .p12 or .pem file. */
  CertificatePath: encryptable(),
  CertificatePassword: encrypted(),
});

const value = z.unknown().optional();
const either = z.union([
  z.strictObject({ ClientId: value, TenantId: value, ObjectId: value, ClientSecret: value }),
  z.strictObject({
    ClientId: value,
    TenantId: value,
    ObjectId: value,
    CertificatePath: value,
    CertificatePassword: value,
  }),
]);

/** Which of the two they are shows in their properties. */
const credentials = either.transform((given, context) => {
  const hasCertificate = 'CertificatePath' in given || 'CertificatePassword' in given;
  const result = (hasCertificate ? certificateCredentials : clientCredentials).safeParse(given);
  if (result.success) return result.data;
  for (const { path, message, ...issue } of result.error.issues) {
    const params = issue.code === 'custom' ? (issue.params ?? {}) : {};
    context.addIssue({ code: 'custom', path: [...path], message, params });
  }
  return z.NEVER;
});

const url = z.url({ protocol: /^https?$/ });

/** The properties of the block "Send Email Using Microsoft 365". */
export const cortexMicrosoft365SettingsSchema = z.strictObject({
  EmailMessage: notNull(cortexMessageSchema),
  Credentials: notNull(credentials),
  /** Default `graph`. */
  Delivery: z.enum(['graph', 'smtp']).nullish(),
  /** For national clouds. */
  TokenEndpointUrl: url.nullish(),
  GraphBaseUrl: url.nullish(),
  SmtpHost: z.string().min(1).nullish(),
  SmtpPort: z.number().int().min(1).max(65535).nullish(),
  TlsOptions: tlsOptionsSchema.optional(),
});

export type CortexMicrosoft365Settings = z.input<typeof cortexMicrosoft365SettingsSchema>;
