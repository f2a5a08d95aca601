import {
  asCheckedMessage,
  type Connection,
  type EmailMessage,
  MailError,
  type SendPolicy,
  storeResultSchema,
} from '@flowpost/core';
import type { NodeDefinition } from '../../node.ts';
import { asFlag } from '../fields.ts';
import { sendEmailSections } from './sections.ts';
import { sendEmailSettingsSchema } from './settings.ts';

function fromOf(from: EmailMessage['from'] | undefined, connection: Connection): EmailMessage['from'] {
  const address = from ?? connection.from;
  if (address) return address;
  throw new MailError('INPUT_INVALID', 'from: neither the message nor the connection has a From address', {
    details: { issues: [{ path: 'from', message: 'it is missing' }] },
  });
}

/** Our own step, in our own words. */
export const sendEmailNode: NodeDefinition<typeof sendEmailSettingsSchema> = {
  type: 'send-email',
  title: 'Send e-mail',
  summary: 'Sends one e-mail over SMTP and reports what the server accepted.',
  settings: sendEmailSettingsSchema,
  sections: sendEmailSections,

  // Field by field: objects of one shape are what everything after this is fast with.
  toSendRequest(given) {
    const message = {
      from: fromOf(given.from, given.connection),
      sender: given.sender,
      replyTo: given.replyTo,
      to: given.to,
      cc: given.cc,
      bcc: given.bcc,
      subject: given.subject,
      html: given.html,
      text: given.text,
      priority: given.priority,
      attachments: given.attachments,
      headers: given.headers,
      messageId: given.messageId,
      date: given.date,
      inReplyTo: given.inReplyTo,
      references: given.references,
      calendar: given.calendar,
      unsubscribe: given.unsubscribe,
      autoSubmitted: given.autoSubmitted,
    } satisfies { readonly [Key in keyof Required<EmailMessage>]: unknown };
    const policy = {
      closeSession: given.closeSession,
      stopOnError: given.stopOnError,
      store: given.store,
      onPartial: given.onPartial,
      async: given.async,
      retry: given.retry,
      onDoubt: given.onDoubt,
      duplicateWindowMs: given.duplicateWindowMs,
      idempotencyKey: given.idempotencyKey,
      loopGuard: given.loopGuard,
      sandbox: given.sandbox,
      dsn: given.dsn,
      requireTls: given.requireTls,
      timeoutMs: given.timeoutMs,
    } satisfies { readonly [Key in keyof Required<SendPolicy>]: unknown };
    // Both halves were checked as one when the settings were.
    return { connection: given.connection, policy, message: asCheckedMessage(message) };
  },

  failurePolicy: {
    reads: ['stopOnError', 'store'],
    of({ stopOnError, store }) {
      const place = storeResultSchema.safeParse(store);
      return { stopOnError: asFlag(stopOnError) !== false, store: place.success ? place.data : undefined };
    },
  },

  describeError: (error) => error.toJSON(),
};
