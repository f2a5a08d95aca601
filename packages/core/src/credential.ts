import { z } from 'zod';
import { bytesSchema } from './attachment.ts';
import { EncryptedText } from './encrypted-text.ts';
import { SecretBytes, SecretText } from './secret.ts';

const textOrEncrypted = 'it must be text, or encrypted text';

const encryptedText = z.instanceof(EncryptedText);

/** Fields of connections that hold a secret: `secretSchema` is theirs. */
export const secretFields: ReadonlySet<string> = new Set([
  ...['password', 'clientSecret', 'accessToken', 'refreshToken', 'certificatePassword', 'privateKey'],
]);

/** A secret as people write it; what comes out prints as `***`. */
export const secretSchema = z.union(
  [
    encryptedText,
    z.instanceof(SecretText),
    z
      .string()
      .min(1)
      .transform((text) =>
        EncryptedText.isEncrypted(text) ? new EncryptedText(text) : new SecretText(text),
      ),
  ],
  { error: textOrEncrypted },
);

/** A value that is no secret but may be encrypted all the same. */
export const encryptableSchema = z.union(
  [
    encryptedText,
    z
      .string()
      .min(1)
      .transform((text) => (EncryptedText.isEncrypted(text) ? new EncryptedText(text) : text)),
  ],
  { error: textOrEncrypted },
);

const endpoint = z.url({ protocol: /^https?$/ });
const clientId = encryptableSchema;
const user = encryptableSchema;

const basic = z.strictObject({
  kind: z.literal('basic'),
  username: encryptableSchema,
  password: secretSchema,
});

const oauth2Refresh = z.strictObject({
  kind: z.literal('oauth2-refresh'),
  user,
  clientId: clientId.optional(),
  clientSecret: secretSchema.optional(),
  accessToken: secretSchema.optional(),
  refreshToken: secretSchema.optional(),
  /** When the access token expires, in Unix milliseconds. */
  expiresAt: z.number().int().nonnegative().optional(),
  /** Who issued the refresh token. Default: the issuer that the mail server goes with, where that is known. */
  tokenEndpoint: endpoint.optional(),
});

const issuer = { tokenEndpoint: endpoint.optional(), tenantId: encryptableSchema.optional() };

/** The application's rights come from Exchange (RBAC for Applications), so that its tokens carry no roles. */
const exchangeRbac = z.boolean().optional();

const oauth2ClientCredentials = z.strictObject({
  kind: z.literal('oauth2-client-credentials'),
  user,
  ...issuer,
  clientId,
  clientSecret: secretSchema,
  scope: z.string().min(1).optional(),
  /** When the secret expires, so that hosts can warn in time. The issuer does not tell. */
  clientSecretExpiresAt: z.iso.datetime({ offset: true }).optional(),
  exchangeRbac,
});

const oauth2Certificate = z.strictObject({
  kind: z.literal('oauth2-certificate'),
  user,
  ...issuer,
  /** The content of the certificate file: PKCS#12, PEM, or Google's JSON key. */
  certificate: z
    .union([z.instanceof(SecretBytes), bytesSchema.transform((bytes) => new SecretBytes(bytes))])
    .optional(),
  certificateFile: encryptableSchema.optional(),
  /** May be empty, which is not the same as none. */
  certificatePassword: z.union([z.literal('').transform(() => new SecretText('')), secretSchema]).optional(),
  /** With a Google JSON key it is in the key. */
  clientId: clientId.optional(),
  scope: z.string().min(1).optional(),
  /** `entra`: private_key_jwt for client credentials. `google`: a service account that acts as `user`. */
  assertion: z.enum(['entra', 'google']),
  exchangeRbac,
});

/** How to log in, before anything is fetched. `auth-providers` turns it into a login. */
export const credentialSchema = z.discriminatedUnion('kind', [
  basic,
  oauth2Refresh,
  oauth2ClientCredentials,
  oauth2Certificate,
]);

/** Who logs in, and with what, checked: its secrets print as `***`. */
export type Credential = z.output<typeof credentialSchema>;
/** A credential as people write it, secrets in clear or encrypted. */
export type CredentialInput = z.input<typeof credentialSchema>;
/** The ways of logging in: a password, or one of the OAuth 2.0 grants. */
export type CredentialKind = Credential['kind'];
/** The credentials of one kind. */
export type CredentialOf<Kind extends CredentialKind> = Extract<Credential, { kind: Kind }>;

/** What a credential becomes: a password for SASL PLAIN and its like, or a bearer token (RFC 6750) for XOAUTH2. */
export type Login =
  | { readonly kind: 'password'; readonly username: string; readonly password: SecretText }
  | {
      readonly kind: 'bearer';
      readonly username: string;
      readonly token: SecretText;
      readonly expiresAt?: number;
    };
