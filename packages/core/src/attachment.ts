import { z } from 'zod';
import { headerTextSchema, headerTokenSchema } from './header-text.ts';

const token = "[A-Za-z0-9!#$%&'*+.^_`{|}~-]+";
const parameter = `\\s*;\\s*${token}=(?:${token}|"(?:[ !#-\\[\\]-~]|\\\\[ -~])*")`;
const mediaType = headerTokenSchema(
  new RegExp(`^(?!multipart/)(?=.{1,500}$)${token}/${token}(?:${parameter})*$`, 'i'),
  'a media type such as text/plain or application/pdf, and not a multipart one',
);

const common = {
  /** The name the recipient sees. Default: what the source calls it. */
  filename: headerTextSchema.min(1).max(255).optional(),
  /** The media type, with parameters if any. Default: by the file name's extension. */
  contentType: mediaType.optional(),
  /** Makes the attachment an inline part that HTML refers to as `cid:<contentId>` (RFC 2392). */
  contentId: headerTokenSchema(
    /^[!-;=?-~]{1,250}$/,
    'printable ASCII without spaces and angle brackets',
  ).optional(),
};

const bytes = z.instanceof(Uint8Array);

/**
 * Every kind of attachment. `text` is UTF-8 text; `base64` and `bytes` are binary content; `custom` is content
 * with a media type of one's own; `file` is a path; `url` is an http, https or data URL; `mime` is a MIME node
 * given whole, headers and body.
 */
export const attachmentSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('text'), content: z.string(), ...common }),
  z.strictObject({ kind: z.literal('base64'), content: z.string(), ...common }),
  z.strictObject({ kind: z.literal('bytes'), content: bytes, ...common }),
  z.strictObject({
    kind: z.literal('custom'),
    content: z.union([z.string(), bytes]),
    ...common,
    contentType: mediaType,
  }),
  z.strictObject({ kind: z.literal('file'), path: z.string().min(1), ...common }),
  z.strictObject({ kind: z.literal('url'), url: z.string().min(1), ...common }),
  z.strictObject({ kind: z.literal('mime'), raw: z.string().min(1), ...common }),
]);

export type Attachment = z.output<typeof attachmentSchema>;
export type AttachmentInput = z.input<typeof attachmentSchema>;
export type AttachmentKind = Attachment['kind'];
export type AttachmentOf<Kind extends AttachmentKind> = Extract<Attachment, { kind: Kind }>;
