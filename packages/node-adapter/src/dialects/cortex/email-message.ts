import {
  type EmailAddress,
  type EmailMessage,
  isMailError,
  parseAddresses,
  parseMessage,
} from '@flowpost/core';
import { z } from 'zod';
import { enumeration, notNull, report, text } from './properties.ts';

/** `EmailAddress`: RFC 5321 decides what an address is. */
const emailAddress = z
  .strictObject({ Name: z.string().nullish(), Address: text() })
  .transform(({ Name, Address }, context): EmailAddress => {
    try {
      const [mailbox] = parseAddresses({ address: Address, name: Name });
      if (mailbox) return mailbox;
    } catch (error) {
      if (!isMailError(error)) throw error;
      const { problems } = error.details;
      context.addIssue({
        code: 'custom',
        path: ['Address'],
        message: error.message,
        params: { code: error.code, problem: 'address', problems },
      });
      return z.NEVER;
    }
    return report(context, 'address', 'it is no address');
  });

const addresses = z.array(notNull(emailAddress));
const none = <Value>(value: Value[] | null | undefined): Value[] => value ?? [];

/** `EmailMessage`, as both blocks take it. */
export const cortexMessageSchema = z.strictObject({
  To: notNull(addresses).transform((to, context) =>
    to.length === 0 ? report(context, 'empty', 'it is empty') : to,
  ),
  From: notNull(emailAddress),
  Cc: addresses.nullish().transform(none),
  Bcc: addresses.nullish().transform(none),
  Priority: enumeration('EmailMessagePriority', ['Normal', 'NonUrgent', 'Urgent']),
  Subject: z.string().nullish(),
  BodyFormat: enumeration('EmailMessageBodyFormat', ['Text', 'Html']),
  Body: z.string().nullish(),
  /** Paths. */
  Attachments: z.array(text()).nullish().transform(none),
});

const priorities = { Normal: 'normal', NonUrgent: 'low', Urgent: 'high' } as const;

/** @throws MailError `HEADER_INVALID` for a subject with line breaks. */
export function toEmailMessage(message: z.output<typeof cortexMessageSchema>): EmailMessage {
  const { To, From, Cc, Bcc, Priority, Subject, BodyFormat, Body, Attachments } = message;
  return parseMessage({
    ...{ from: From, to: To, cc: Cc, bcc: Bcc, subject: Subject ?? '' },
    priority: priorities[Priority],
    [BodyFormat === 'Html' ? 'html' : 'text']: Body ?? '',
    attachments: Attachments.map((path) => ({ kind: 'file', path })),
  });
}

/** What the platform's editor begins with. */
export const defaultMessage = {
  To: [{ Name: null, Address: '' }],
  From: { Name: '', Address: '' },
  Cc: [],
  Bcc: [],
  Priority: 'EmailMessagePriority.Normal',
  Subject: '',
  BodyFormat: 'EmailMessageBodyFormat.Text',
  Body: '',
  Attachments: [],
};
