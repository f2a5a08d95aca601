import {
  addressListSchema,
  bytesSchema,
  hostSchema,
  isPlainObject,
  portSchema,
  singleAddressSchema,
} from '@flowpost/core';
import { z } from 'zod';
import {
  asNumber,
  choice,
  encryptable,
  filledIn,
  flag,
  flowText,
  isBlank,
  isFilledIn,
  leftEmpty,
  optionalText,
  tlsOptionsSetting,
} from '../fields.ts';

const connectionName = { connectionName: leftEmpty(z.string()) };
const user = encryptable;

/** What the form fills in for choices that were not made, too. */
export const formDefaults = {
  accessUrl: 'https://accounts.google.com/o/oauth2/token',
  tlsOption: 'tls',
} as const;

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
    tlsOption: choice(['tls', 'starttls', 'none'], undefined),
  }),
  z.strictObject({
    type: z.literal('basic'),
    ...connectionName,
    username: encryptable,
    password: encryptable,
  }),
]);

const filename = { filename: optionalText };

const attachmentSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('none') }),
  z.strictObject({ type: z.literal('url'), url: z.string().min(1), ...filename }),
  z.strictObject({ type: z.literal('text'), content: flowText, ...filename }),
  z.strictObject({ type: z.literal('base64'), content: z.string(), ...filename }),
  z.strictObject({
    type: z.literal('custom'),
    content: z.union([bytesSchema, flowText]),
    contentType: z.string().min(1),
    ...filename,
  }),
  z.strictObject({ type: z.literal('mime'), raw: z.string().min(1) }),
]);

/** Where the result is stored. */
export const storeTarget = choice(['none', 'input', 'context'], 'none');

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
      host: hostSchema,
      port: leftEmpty(z.preprocess(asNumber, portSchema)),
      secure: leftEmpty(flag(false)),
    }),
  ),
  authentication: leftEmpty(authenticationSchema),
  to: addressListSchema.default([]),
  subject: flowText,
  /** HTML. */
  content: flowText,
  attachments: leftEmpty(z.array(attachmentSchema)),
  storeResult: storeTarget,
  inputKey: optionalText,
  contextKey: optionalText,
  stopOnError: flag(false),
  customFrom: leftEmpty(singleAddressSchema),
  cc: addressListSchema.default([]),
  bcc: addressListSchema.default([]),
  replyTo: addressListSchema.default([]),
  customText: optionalText,
  priority: choice(['high', 'normal', 'low'], 'normal'),
  async: flag(false),
  /** Ours: a private authority, or a pinned certificate. */
  tlsOptions: tlsOptionsSetting,
  /** Ours: lets credentials travel in clear to another machine. */
  allowPlaintextAuth: flag(false),
});

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

type Choices = z.ZodDiscriminatedUnion<readonly z.ZodObject<{ type: z.ZodLiteral<string> }>[]>;

/**
 * What a form hands over of a choice: without empty fields, and without what was filled in before another choice was made.
 *
 * @param left fields a form leaves filled in when it hides them. Not what says where secrets go or what a file is: there, whoever
 * wrote it meant it, and is told.
 * @param usual what a form fills in by itself.
 */
function chosen(
  { options }: Choices,
  left: ReadonlySet<string>,
  usual: Readonly<Record<string, unknown>> = {},
): (value: Record<string, unknown>) => object {
  const fields = new Map(options.map(({ shape }) => [shape.type.value, new Set(Object.keys(shape))]));
  return (value) => {
    const own = fields.get(String(value.type));
    const isLeft = (name: string, one: unknown): boolean => left.has(name) || usual[name] === one;
    const isKept = ([name, one]: [string, unknown]): boolean =>
      own?.has(name) === true || (isFilledIn(one) && !(own && isLeft(name, one)));
    return Object.fromEntries(Object.entries(value).filter(isKept));
  };
}

const words = (text: string): ReadonlySet<string> => new Set(text.split(' '));
const chosenAuthentication = chosen(
  authenticationSchema as unknown as Choices,
  words('username password user clientId clientSecret scope accessToken refreshToken expiryDate'),
  formDefaults,
);
const chosenFields = chosen(attachmentSchema as unknown as Choices, words('url content raw filename'));

function chosenAttachment(attachment: unknown): unknown {
  if (!isObject(attachment)) return attachment;
  const { type } = attachment;
  return type === 'none' || isBlank(type) ? { type: 'none' } : chosenFields(attachment);
}

/** A form hands over the fields of choices that were not made, too. */
function asChosen(settings: unknown): unknown {
  if (!isObject(settings)) return settings;
  const filled = filledIn(settings.authentication);
  const usual: Readonly<Record<string, unknown>> = formDefaults;
  const isNone = isObject(filled) && Object.entries(filled).every(([name, one]) => usual[name] === one);
  const authentication = isPlainObject(filled) ? chosenAuthentication(filled) : filled;
  const smtpSettings = filledIn(settings.smtpSettings);
  const isGiven = isObject(smtpSettings) && typeof smtpSettings.host === 'string';
  const attachments = Array.isArray(settings.attachments)
    ? settings.attachments.map(chosenAttachment)
    : settings.attachments;
  return {
    ...settings,
    authentication: isNone ? undefined : authentication,
    ...(Object.hasOwn(settings, 'attachments') && { attachments }),
    smtpSettings: isGiven || !isObject(smtpSettings) ? smtpSettings : undefined,
  };
}

/** The settings of the node "Send SMTP Email": what its form hands over, the connection chosen in it included. */
export const cognigySettingsSchema = z.preprocess(asChosen, cognigyFields.superRefine(needsKey));

/** The settings of the node "Send SMTP Email", as a flow author writes them. */
export type CognigySettings = z.input<typeof cognigyFields>;
