import {
  type EmailAddress,
  type EmailMessage,
  isMailError,
  parseAddresses,
  parseMessage,
} from '@flowpost/core';
import { z } from 'zod';
import type { NodeDefinition } from '../../node.ts';
import { flowText, leftEmpty, optionalText } from '../fields.ts';
import { enumeration, notNull, report, text } from './properties.ts';

/** `EmailAddress`: RFC 5321 decides what an address is. */
const emailAddress = z
  .strictObject({ Name: optionalText, Address: text() })
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

const bodyFormat = enumeration('EmailMessageBodyFormat', ['Text', 'Html']);

/** `EmailMessage`, as both blocks take it. */
export const cortexMessageSchema = z.strictObject({
  To: notNull(addresses).transform((to, context) =>
    to.length === 0 ? report(context, 'empty', 'it is empty') : to,
  ),
  From: notNull(emailAddress),
  Cc: leftEmpty(addresses).transform(none),
  Bcc: leftEmpty(addresses).transform(none),
  Priority: enumeration('EmailMessagePriority', ['Normal', 'NonUrgent', 'Urgent']),
  Subject: flowText,
  BodyFormat: bodyFormat,
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

/** The body, when its format is HTML; an expression may say so. What is no format fails later, and is no text until then. */
export const cortexHtmlFields: NonNullable<NodeDefinition['htmlFields']> = (written, workOut) => {
  const { EmailMessage } = (written ?? {}) as { EmailMessage?: { BodyFormat?: unknown } | null };
  const worked = workOut({ EmailMessage: { BodyFormat: EmailMessage?.BodyFormat } });
  const format = bodyFormat.safeParse(worked.EmailMessage.BodyFormat);
  return format.success && format.data === 'Text' ? [] : ['EmailMessage.Body'];
};

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
