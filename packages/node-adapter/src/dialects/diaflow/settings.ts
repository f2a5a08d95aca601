import { addressListSchema, bytesSchema, hostSchema, portSchema, singleAddressSchema } from '@flowpost/core';
import { z } from 'zod';
import {
  asNumber,
  asText,
  choice,
  encryptable,
  flowText,
  leftEmpty,
  optionalText,
  tlsOptionsSetting,
} from '../fields.ts';

/** What JSON makes of bytes in Node. */
function asBytes(value: unknown): unknown {
  const { type, data } = (value ?? {}) as { type?: unknown; data?: unknown };
  return type === 'Buffer' && Array.isArray(data) ? Buffer.from(data as number[]) : value;
}

const bytes = z.preprocess(asBytes, bytesSchema) as unknown as z.ZodType<Uint8Array<ArrayBuffer>, Uint8Array>;

/** A number is the text of it; what is missing stays so. */
const writtenOut = (value: unknown): unknown => (value === null ? value : asText(value));

const mediaType = leftEmpty(z.string());

/** A file as earlier steps hand it on. */
const fileSchema = z.union(
  [
    z.string().min(1),
    bytes,
    z.looseObject({
      path: leftEmpty(z.string()),
      url: leftEmpty(z.string()),
      /** Bytes, Base64, or plain text; empty text is an empty file, where nothing else says what the file is. */
      content: z.preprocess(writtenOut, z.union([z.string(), bytes]).nullish()) as unknown as z.ZodType<
        string | Uint8Array | null | undefined,
        string | number | Uint8Array | null | undefined
      >,
      /** What a content that is text is; left out, Base64 when it can be and makes sense as that. */
      encoding: choice(['base64', 'text'], undefined),
      /** Under whichever name the step before has them. */
      ...{ filename: optionalText, fileName: optionalText, name: optionalText },
      ...{ contentType: mediaType, mimeType: mediaType, mimetype: mediaType },
    }),
  ],
  { error: 'it is no file: a path, a URL, bytes, or an object with path, url or content' },
);
export type DiaflowFile = z.output<typeof fileSchema>;

type FileInput = z.input<typeof fileSchema>;
const asList = (value: unknown): unknown => {
  if (value === '' || value === null || value === undefined) return [];
  // An expression within the list may be a list itself.
  return Array.isArray(value) ? value.flat() : [value];
};
const filesSchema: z.ZodOptional<
  z.ZodType<DiaflowFile[], FileInput | readonly (FileInput | readonly FileInput[])[] | '' | null>
> = z.preprocess(asList, z.array(fileSchema)).optional() as never;

/** Default: HTML when the message has a tag in it. */
export const messageFormatSchema = choice(['text', 'html'], undefined);

/** The fields of Diaflow's "SMTP" node, with its saved resource in `credentials`. */
const diaflowFields = z.strictObject({
  credentials: z.strictObject({
    /** What the resource is called. */
    name: leftEmpty(z.string()),
    host: hostSchema,
    /** Decides how the connection is encrypted: 465 from the first byte, any other by STARTTLS. */
    port: z.preprocess(asNumber, portSchema) as unknown as z.ZodType<number, number | string>,
    username: leftEmpty(encryptable),
    password: leftEmpty(encryptable),
    fromEmail: leftEmpty(singleAddressSchema),
  }),
  to: addressListSchema.default([]),
  cc: addressListSchema.default([]),
  bcc: addressListSchema.default([]),
  subject: optionalText,
  /** Another name for the subject. */
  object: optionalText,
  message: flowText,
  messageFormat: messageFormatSchema,
  attachments: filesSchema,
  /** Ours: a private authority, or a pinned certificate. */
  tlsOptions: tlsOptionsSetting,
});

/** The settings of the node "SMTP". */
export const diaflowSettingsSchema = diaflowFields.refine(
  ({ subject, object }) => subject === undefined || object === undefined || subject === object,
  { error: 'it is another name for subject, which says something else', path: ['object'] },
);

/** The settings of the node, as a flow author writes them. */
export type DiaflowSettings = z.input<typeof diaflowSettingsSchema>;
