import { addressListSchema, singleAddressSchema, tlsOptionsSchema } from '@flowpost/core';
import { z } from 'zod';
import { encryptable, leftEmpty } from '../fields.ts';

/** A file as earlier steps hand it on. */
const fileSchema = z.union([
  z.string().min(1),
  z.instanceof(Uint8Array),
  z.looseObject({
    path: leftEmpty(z.string()),
    url: leftEmpty(z.string()),
    /** Base64 text, or bytes. */
    content: leftEmpty(z.union([z.string(), z.instanceof(Uint8Array)])),
    filename: leftEmpty(z.string()),
    name: leftEmpty(z.string()),
    contentType: leftEmpty(z.string()),
  }),
]);
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

/** The fields of Diaflow's "SMTP" node, with its saved resource in `credentials`. */
const diaflowFields = z.strictObject({
  credentials: z.strictObject({
    host: z.string().min(1),
    /** Decides how the connection is encrypted: 465 from the first byte, any other by STARTTLS. */
    port: z.coerce.number().int().min(1).max(65535),
    username: leftEmpty(encryptable),
    password: leftEmpty(encryptable),
    fromEmail: leftEmpty(singleAddressSchema),
  }),
  to: addressListSchema.default([]),
  cc: addressListSchema.default([]),
  bcc: addressListSchema.default([]),
  subject: leftEmpty(z.string()),
  /** Another name for the subject. */
  object: leftEmpty(z.string()),
  message: z.string().default(''),
  /** Default: HTML when the message has a tag in it. */
  messageFormat: leftEmpty(z.enum(['text', 'html'])),
  attachments: filesSchema,
  /** Ours: a private authority, or a pinned certificate. */
  tlsOptions: leftEmpty(tlsOptionsSchema),
});

export const diaflowSettingsSchema = diaflowFields.refine(
  ({ subject, object }) => subject === undefined || object === undefined || subject === object,
  { error: 'it is another name for subject, which says something else', path: ['object'] },
);

export type DiaflowSettings = z.input<typeof diaflowSettingsSchema>;
