import {
  type EmailAddress,
  type EmailMessage,
  isMailError,
  parseAddresses,
  parseMessage,
} from '@flowpost/core';
import { z } from 'zod';
import { flowText, leftEmpty } from '../fields.ts';
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
      // What is wrong is a part of one of the two.
      const [{ part = '' } = {}] = (problems ?? []) as readonly { readonly part?: string }[];
      context.addIssue({
        code: 'custom',
        path: [part !== '' && part === Name && part !== Address ? 'Name' : 'Address'],
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
  Subject: flowText,
  BodyFormat: enumeration('EmailMessageBodyFormat', ['Text', 'Html']),
  Body: flowText,
  /** Paths. */
  Attachments: leftEmpty(z.array(text())).transform(none),
});

const priorities = { Normal: 'normal', NonUrgent: 'low', Urgent: 'high' } as const;

/** @throws MailError `HEADER_INVALID` for a subject with line breaks. */
export function toEmailMessage(message: z.output<typeof cortexMessageSchema>): EmailMessage {
  const { To, From, Cc, Bcc, Priority, Subject, BodyFormat, Body, Attachments } = message;
  return parseMessage({
    ...{ from: From, to: To, cc: Cc, bcc: Bcc, subject: Subject },
    priority: priorities[Priority],
    [BodyFormat === 'Html' ? 'html' : 'text']: Body,
    attachments: Attachments.map((path) => ({ kind: 'file', path })),
  });
}

/** The body is HTML when the settings say so as they are written; when an expression says so, the body is none of them. */
export function cortexHtmlFields(written: unknown): readonly string[] {
  const { BodyFormat } = ((written as { EmailMessage?: unknown } | null)?.EmailMessage ?? {}) as {
    BodyFormat?: unknown;
  };
  const isText =
    BodyFormat === undefined || BodyFormat === null || BodyFormat === 0 || /Text$/.test(String(BodyFormat));
  return isText ? [] : ['EmailMessage.Body'];
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
