import {
  type Connection,
  type EmailMessage,
  MailError,
  sendPolicySchema,
  storeResultSchema,
} from '@flowpost/core';
import type { z } from 'zod';
import type { NodeDefinition } from '../../node.ts';
import { sendEmailSections } from './sections.ts';
import { sendEmailSettingsSchema } from './settings.ts';

const policyKeys = Object.keys(sendPolicySchema.shape);

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

  toSendRequest({ connection, from, ...rest }: z.output<typeof sendEmailSettingsSchema>) {
    const isPolicy = ([key]: [string, unknown]): boolean => policyKeys.includes(key);
    const entries = Object.entries(rest);
    const policy = sendPolicySchema.parse(Object.fromEntries(entries.filter(isPolicy)));
    const message = Object.fromEntries(entries.filter((entry) => !isPolicy(entry)));
    // Both halves were checked as one when the settings were.
    return { connection, policy, message: { ...message, from: fromOf(from, connection) } as EmailMessage };
  },

  failurePolicy(settings) {
    const { stopOnError, store } = (settings ?? {}) as Record<string, unknown>;
    const place = storeResultSchema.safeParse(store);
    return { stopOnError: stopOnError !== false, store: place.success ? place.data : undefined };
  },

  describeError: (error) => error.toJSON(),
};
