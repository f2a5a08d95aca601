import { addressListSchema, prioritySchema, singleAddressSchema, tlsOptionsSchema } from '@flowpost/core';
import { z } from 'zod';
import { encryptable, leftEmpty } from '../fields.ts';

const connectionName = { connectionName: leftEmpty(z.string()) };
const user = encryptable;

/** One of the connections a flow author makes and names. */
const authenticationSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('oauth2-client-credentials'),
    ...connectionName,
    tokenEndpointUrl: z.url({ protocol: /^https?$/ }),
    clientId: encryptable,
    clientSecret: encryptable,
    scope: leftEmpty(z.string()),
    user,
  }),
  z.strictObject({
    type: z.literal('oauth2'),
    ...connectionName,
    user,
    clientId: leftEmpty(encryptable),
    clientSecret: leftEmpty(encryptable),
    /** Needed only without a refresh token. */
    accessToken: leftEmpty(encryptable),
    refreshToken: leftEmpty(encryptable),
    /** When the access token expires, in Unix milliseconds. */
    expiryDate: leftEmpty(z.coerce.number().int().nonnegative()),
    /** Default Google's. */
    accessUrl: leftEmpty(z.url({ protocol: /^https?$/ })),
    /** Matters for "Other SMTP Service" only; a known service has its own. */
    tlsOption: leftEmpty(z.enum(['tls', 'starttls', 'none'])),
  }),
  z.strictObject({
    type: z.literal('basic'),
    ...connectionName,
    username: encryptable,
    password: encryptable,
  }),
]);

const filename = { filename: leftEmpty(z.string()) };

const attachmentSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('none') }),
  z.strictObject({ type: z.literal('url'), url: z.string().min(1), ...filename }),
  z.strictObject({ type: z.literal('text'), content: z.string(), ...filename }),
  z.strictObject({ type: z.literal('base64'), content: z.string(), ...filename }),
  z.strictObject({
    type: z.literal('custom'),
    content: z.union([z.string(), z.instanceof(Uint8Array)]),
    contentType: z.string().min(1),
    ...filename,
  }),
  z.strictObject({ type: z.literal('mime'), raw: z.string().min(1) }),
]);

/** A key is demanded where a result is to be stored. */
function needsKey(
  settings: { storeResult: string; inputKey?: unknown; contextKey?: unknown },
  context: z.RefinementCtx,
) {
  const name = settings.storeResult === 'input' ? 'inputKey' : 'contextKey';
  if (settings.storeResult === 'none' || settings[name] !== undefined) return;
  context.addIssue({ code: 'custom', path: [name], message: 'it names where the result is stored' });
}

/** The fields of Cognigy's "Send SMTP Email" node. */
const cognigyFields = z.strictObject({
  /** A known service by name, or "Other SMTP Service". */
  emailService: z.string().min(1),
  /** For "Other SMTP Service". `secure` is TLS from the first byte; without it STARTTLS, where the server offers it. */
  smtpSettings: leftEmpty(
    z.strictObject({
      host: z.string().min(1),
      port: leftEmpty(z.coerce.number().int().min(1).max(65535)),
      secure: leftEmpty(z.boolean()),
    }),
  ),
  authentication: leftEmpty(authenticationSchema),
  to: addressListSchema.default([]),
  subject: z.string().default(''),
  /** HTML. */
  content: z.string().default(''),
  attachments: leftEmpty(z.array(attachmentSchema)),
  storeResult: z.enum(['none', 'input', 'context']).default('none'),
  inputKey: leftEmpty(z.string()),
  contextKey: leftEmpty(z.string()),
  stopOnError: z.boolean().default(false),
  customFrom: leftEmpty(singleAddressSchema),
  cc: addressListSchema.default([]),
  bcc: addressListSchema.default([]),
  replyTo: addressListSchema.default([]),
  customText: leftEmpty(z.string()),
  priority: prioritySchema.default('normal'),
  async: z.boolean().default(false),
  /** Ours: a private authority, or a pinned certificate. */
  tlsOptions: leftEmpty(tlsOptionsSchema),
});

export const cognigySettingsSchema = cognigyFields.superRefine(needsKey);

export type CognigySettings = z.input<typeof cognigySettingsSchema>;
