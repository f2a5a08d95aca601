import { hostSchema, portSchema } from '@flowpost/core';
import { z } from 'zod';
import { cortexMessageSchema } from '../cortex/email-message.ts';
import { encryptable, encrypted, notNull } from '../cortex/properties.ts';
import { asNumber, choice, isFilledIn, leftEmpty, tlsOptionsSetting } from '../fields.ts';

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
/** Both kinds, so that a property of neither is named. */
const either = z.strictObject({
  ...{ ClientId: value, TenantId: value, ObjectId: value, ClientSecret: value },
  ...{ CertificatePath: value, CertificatePassword: value },
});

/** A form that has both kinds leaves one blank. */
function ofOneKind(given: unknown): unknown {
  if (typeof given !== 'object' || given === null || !('ClientSecret' in given)) return given;
  const { ClientSecret, CertificatePath, CertificatePassword, ...rest } = given as Record<string, unknown>;
  if (![CertificatePath, CertificatePassword].some(isFilledIn)) return { ...rest, ClientSecret };
  return !isFilledIn(ClientSecret) ? { ...rest, CertificatePath, CertificatePassword } : given;
}

/** Which of the two they are shows in their properties. */
const credentials = z.preprocess(ofOneKind, either).transform((given, context) => {
  // A property of neither kind is all there is to say.
  if (context.issues.length > 0) return z.NEVER;
  const hasCertificate = 'CertificatePath' in given || 'CertificatePassword' in given;
  if (hasCertificate && 'ClientSecret' in given) {
    const message = 'give ClientSecret, or CertificatePath and CertificatePassword, and not both';
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  }
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
  Delivery: choice(['graph', 'smtp'], 'graph'),
  /** For national clouds. */
  TokenEndpointUrl: leftEmpty(url),
  GraphBaseUrl: leftEmpty(url),
  SmtpHost: leftEmpty(hostSchema),
  SmtpPort: leftEmpty(z.preprocess(asNumber, portSchema)),
  TlsOptions: tlsOptionsSetting,
});

/** The properties of the block, as a flow author writes them. */
export type CortexMicrosoft365Settings = z.input<typeof cortexMicrosoft365SettingsSchema>;
