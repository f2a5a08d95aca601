import { types } from 'node:util';
import { z } from 'zod';
import { addressListSchema, singleAddressSchema } from './address.ts';
import { attachmentSchema } from './attachment.ts';
import { parseWith } from './errors/schema-error.ts';
import { headerTextSchema, headerTokenSchema } from './header-text.ts';

/** How urgent a message says it is, in `X-Priority` and its like. */
export const prioritySchema = z.enum(['high', 'normal', 'low']);
/** How urgent a message says it is. */
export type Priority = z.output<typeof prioritySchema>;

/** Headers that have a field of their own, or that composing decides. */
const reservedHeaders = new Set(
  (
    'from sender reply-to to cc bcc subject date message-id in-reply-to references mime-version ' +
    'content-type content-transfer-encoding content-disposition content-id auto-submitted ' +
    'list-unsubscribe list-unsubscribe-post dkim-signature return-path received'
  ).split(' '),
);

const headerName = z
  .string()
  .regex(
    /^[!-9;-~]{1,76}$/,
    'a header name is printable ASCII without spaces and colons, at most 76 characters',
  )
  .refine((name) => !reservedHeaders.has(name.toLowerCase()), {
    error: 'this header has a field of its own, or is written when the message is composed',
  });

const messageId = headerTokenSchema(
  /^<[!-;=?A-~]{1,450}@[!-;=?A-~]{1,450}>$/,
  'a message id in angle brackets, as in <id@example.com>',
);

/** Ids of others' messages, which are what they are. */
const foreignId = headerTokenSchema(
  /^<[!-;=?-~]{1,900}>$/,
  'a message id in angle brackets, as in <id@example.com>',
);
/** Several in one text, as a header field holds them: white space between, or nothing (RFC 5322 section 3.6.4), or commas. */
const foreignIds = z
  .string()
  .transform((text) =>
    text
      .replace(/>[\s,]*/g, '> ')
      .trim()
      .split(/\s+/)
      .filter(Boolean),
  )
  .pipe(z.array(foreignId));

/** Years a mail program can show. */
const dateSchema = z
  .union(
    [
      // Also one that a sandbox (`node:vm`) made.
      z.custom<Date>(types.isDate).transform((date) => new Date(date)),
      z.iso.datetime({ offset: true }).transform((text) => new Date(text)),
    ],
    { error: 'it must be a date and time with its offset, such as 2026-11-30T09:00:00Z (ISO 8601)' },
  )
  .refine((date) => date.getUTCFullYear() >= 1900 && date.getUTCFullYear() <= 9999, {
    error: 'the year must be from 1900 to 9999',
  });

/** The METHOD of an iCalendar object if it has one, lines unfolded (RFC 5545 sections 3.1 and 3.7.2). */
export const calendarMethod = (content: string): string | undefined =>
  /^METHOD(?:;[^:\r\n]*)?:(.*)$/im.exec(content.replace(/\r?\n[ \t]/g, ''))?.[1]?.trim();

const calendarSchema = z
  .strictObject({
    /** The iTIP method (RFC 5546). */
    method: z.enum(['PUBLISH', 'REQUEST', 'REPLY', 'ADD', 'CANCEL', 'REFRESH', 'COUNTER', 'DECLINECOUNTER']),
    /** The iCalendar object (RFC 5545), beginning with `BEGIN:VCALENDAR`. */
    content: z.string().startsWith('BEGIN:VCALENDAR'),
  })
  .superRefine(({ method, content }, context) => {
    const own = calendarMethod(content);
    // RFC 6047 section 2.4: programs go by either, so both have to say the same.
    if (own === undefined || own.toUpperCase() === method) return;
    context.addIssue({ code: 'custom', path: ['method'], message: `the calendar itself says METHOD:${own}` });
  });

const unsubscribeSchema = z
  .strictObject({
    /** An https URL that takes the one-click POST of RFC 8058. */
    url: headerTokenSchema(/^https:\/\/[!-;=?-~]{1,900}$/, 'an https URL').optional(),
    /** An address that takes unsubscribe requests by mail (RFC 2369). */
    mailto: singleAddressSchema.optional(),
  })
  .refine(({ url, mailto }) => url !== undefined || mailto !== undefined, {
    error: 'give url, mailto or both',
  });

/** One e-mail, as its author thinks of it. Bcc recipients get it and appear in no header. */
export const emailMessageSchema = z.strictObject({
  from: singleAddressSchema,
  /** Who really sends it, when not `from` (RFC 5322 section 3.6.2); also the envelope sender. */
  sender: singleAddressSchema.optional(),
  replyTo: addressListSchema.default([]),
  to: addressListSchema.default([]),
  cc: addressListSchema.default([]),
  bcc: addressListSchema.default([]),
  subject: headerTextSchema.default(''),
  html: z.string().optional(),
  text: z.string().optional(),
  priority: prioritySchema.default('normal'),
  attachments: z.array(attachmentSchema).default([]),
  /** Further headers by name; an array gives the header several times. */
  headers: z.record(headerName, z.union([headerTextSchema, z.array(headerTextSchema)])).optional(),
  /** Default: a new one. Give it to keep it over several attempts. */
  messageId: messageId.optional(),
  /** Default: now. */
  date: dateSchema.optional(),
  /** The Message-ID of the message this one answers. */
  inReplyTo: foreignId.optional(),
  /** Those of the messages before that one: a list, or the text of its own References field. It is added itself (RFC 5322 section 3.6.4). */
  references: z
    .union([z.array(foreignId), foreignIds], { error: 'it must be Message-IDs in angle brackets' })
    .optional(),
  calendar: calendarSchema.optional(),
  unsubscribe: unsubscribeSchema.optional(),
  /** RFC 3834: what made this message, when not a person. */
  autoSubmitted: z.enum(['no', 'auto-generated', 'auto-replied']).optional(),
});

/** The recipients are asked for apart, so that every other mistake is reported together with their absence. */
export const sendableMessageSchema = emailMessageSchema.superRefine(({ to, cc, bcc }, context) => {
  if (to.length + cc.length + bcc.length > 0) return;
  context.addIssue({
    code: 'custom',
    path: ['to'],
    message: 'there is no recipient in to, cc or bcc',
    params: { code: 'RECIPIENTS_MISSING' },
  });
});

/** One e-mail, checked: out of {@link parseMessage}. */
export type EmailMessage = z.output<typeof emailMessageSchema>;
/** One e-mail, as people write it: addresses as text, lists left out. */
export type EmailMessageInput = z.input<typeof emailMessageSchema>;

/** Messages that were checked and cannot change any more. */
const checked = new WeakSet<object>();

/**
 * Marks a message as checked, so that who sends it need not check it again, and keeps it from changing.
 *
 * @param message out of {@link emailMessageSchema}, or of its fields one by one; nothing is looked at here.
 */
export function asCheckedMessage(message: EmailMessage): EmailMessage {
  const { from, sender, replyTo, to, cc, bcc, attachments, headers, references, calendar, unsubscribe } =
    message;
  for (const list of [replyTo, to, cc, bcc, attachments]) {
    for (const one of list) Object.freeze(one);
    Object.freeze(list);
  }
  Object.freeze(from);
  for (const one of [sender, references, calendar, unsubscribe, headers]) if (one) Object.freeze(one);
  for (const one of Object.values(headers ?? {})) if (Array.isArray(one)) Object.freeze(one);
  checked.add(message);
  return Object.freeze(message);
}

/** Whether a message was checked, so that it cannot change any more. */
export const isCheckedMessage = (message: object): message is EmailMessage => checked.has(message);

/** @throws MailError of category `input`, every bad field in one error. */
export function parseMessage(input: EmailMessageInput): EmailMessage {
  if (checked.has(input)) {
    const message = input as EmailMessage;
    if (message.to.length + message.cc.length + message.bcc.length > 0) return message;
  }
  return parseWith(sendableMessageSchema, input);
}
