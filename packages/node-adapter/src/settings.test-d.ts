import { expectTypeOf } from 'vitest';
import type {
  CognigySettings,
  CortexMicrosoft365Settings,
  CortexSmtpSettings,
  DiaflowSettings,
  Dynamic,
  NodeOutcome,
  SendEmailSettings,
} from './index.ts';

// Settings of every node can be written as they are in their documentation, without casts; the compiler is the test.

export const sendEmail: SendEmailSettings = {
  connection: 'smtps://user:password@smtp.example.com:465',
  from: 'Ann <ann@example.com>',
  to: ['bob@example.com', { name: 'C', address: 'c@example.com' }],
  subject: 'Hi',
  attachments: [{ kind: 'text', content: 'x', filename: 'x.txt' }],
  retry: { attempts: 5 },
  sandbox: { redirectTo: 'me@example.com' },
  store: { target: 'context', key: 'mail.result' },
};

export const cognigy: CognigySettings = {
  emailService: 'other',
  smtpSettings: { host: 'smtp.example.com', port: 587, secure: false },
  authentication: { type: 'basic', username: 'me@example.com', password: 'x' },
  to: 'bob@example.com',
  attachments: [{ type: 'none' }, { type: 'url', url: 'https://example.com/a.pdf' }],
  storeResult: 'context',
  contextKey: 'mail',
};

export const cortexSmtp: Dynamic<CortexSmtpSettings> = {
  EmailMessage: {
    To: [{ Name: null, Address: 'bob@example.com' }],
    From: { Address: 'ann@example.com' },
    Priority: 'EmailMessagePriority.Urgent',
    BodyFormat: 1,
  },
  BasicEmailSessionDetails: { $variable: 'details' },
  CloseSession: true,
};

export const cortexMicrosoft365: CortexMicrosoft365Settings = {
  EmailMessage: { To: [{ Address: 'bob@example.com' }], From: { Address: 'ann@example.com' } },
  Credentials: { ClientId: 'c', ClientSecret: 's', TenantId: 't', ObjectId: 'o' },
  Delivery: 'smtp',
};

export const diaflow: Dynamic<DiaflowSettings> = {
  credentials: { host: 'smtp.gmail.com', port: 465, username: 'me@example.com', password: 'x' },
  to: '{{ input.list }}',
  subject: 'Re: {{ input.topic }}',
  attachments: ['a.pdf', '{{ input.file }}'],
};

expectTypeOf<SendEmailSettings['to']>().not.toBeUnknown();
expectTypeOf<SendEmailSettings['store']>().not.toBeUnknown();
expectTypeOf<CognigySettings['attachments']>().not.toBeUnknown();
expectTypeOf<CortexSmtpSettings['EmailMessage']>().not.toBeAny();
expectTypeOf<DiaflowSettings['attachments']>().not.toBeUnknown();

export const misspelled: DiaflowSettings = {
  credentials: { host: 'h', port: 1 },
  // @ts-expect-error a misspelled setting is an error
  mesage: 'x',
};
export const unknownType: CognigySettings = {
  emailService: 'Gmail',
  // @ts-expect-error an attachment of no known type
  attachments: [{ type: 'fax' }],
};
export const noConnection: SendEmailSettings = {
  // @ts-expect-error a connection is a URL or an object of a known kind
  connection: { kind: 'pigeon' },
};

export function read(outcome: NodeOutcome): string {
  return 'error' in outcome ? outcome.error.hint : outcome.receipt.messageId;
}
