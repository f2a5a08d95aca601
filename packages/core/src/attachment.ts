import { types } from 'node:util';
import { z } from 'zod';
import { headerTextSchema, headerTokenSchema } from './header-text.ts';

const token = "[A-Za-z0-9!#$%&'*+.^_`{|}~-]+";
const parameter = `[ \\t]*;[ \\t]*${token}=(?:${token}|"(?:[ !#-\\[\\]-~]|\\\\[ -~])*")`;
const mediaTypePattern = new RegExp(`^(?!multipart/)(?=.{1,500}$)${token}/${token}(?:${parameter})*$`, 'i');
const mediaType = headerTokenSchema(
  mediaTypePattern,
  'a media type such as text/plain or application/pdf, and not a multipart one',
);

/** Whether a text is a media type an attachment can have (RFC 2045 section 5.1): with parameters, but not multipart. */
export const isMediaType = (text: string): boolean => mediaTypePattern.test(text);

const common = {
  /** The name the recipient sees. Default: what the source calls it. */
  filename: headerTextSchema.min(1).max(255).optional(),
  /** The media type, with parameters if any. Default: what the source says, else by the file name's extension, else by its first bytes. */
  contentType: mediaType.optional(),
  /** Makes the attachment an inline part that HTML refers to as `cid:<contentId>` (RFC 2392). */
  contentId: headerTokenSchema(
    /^[!-;=?-~]{1,250}$/,
    'printable ASCII without spaces and angle brackets',
  ).optional(),
};

/** Bytes, of whatever realm. */
export const bytesSchema = z.custom<Uint8Array>(types.isUint8Array, 'bytes (a Uint8Array)');

/**
 * Every kind of attachment. `text` is UTF-8 text; `base64` and `bytes` are binary content; `custom` is content
 * with a media type of one's own; `file` is a path; `url` is an http, https or data URL; `mime` is a MIME node
 * given whole: header lines that end in CRLF, or in text all in LF, an empty line, and the body as its Content-Transfer-Encoding says.
 */
export const attachmentSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('text'), content: z.string(), ...common }),
  z.strictObject({ kind: z.literal('base64'), content: z.string(), ...common }),
  z.strictObject({ kind: z.literal('bytes'), content: bytesSchema, ...common }),
  z.strictObject({
    kind: z.literal('custom'),
    content: z.union([z.string(), bytesSchema]),
    ...common,
    contentType: mediaType,
  }),
  z.strictObject({ kind: z.literal('file'), path: z.string().min(1), ...common }),
  z.strictObject({ kind: z.literal('url'), url: z.string().min(1), ...common }),
  z.strictObject({
    kind: z.literal('mime'),
    raw: z.union([z.string().min(1), bytesSchema], { error: 'it must be text or bytes' }),
    ...common,
  }),
]);

/** One attachment, checked. */
export type Attachment = z.output<typeof attachmentSchema>;
/** One attachment, as people write it. */
export type AttachmentInput = z.input<typeof attachmentSchema>;
/** Where the content of an attachment is: in it, in a file, behind a URL, or a whole MIME node. */
export type AttachmentKind = Attachment['kind'];
/** The attachments of one kind. */
export type AttachmentOf<Kind extends AttachmentKind> = Extract<Attachment, { kind: Kind }>;
