import {
  type AttachmentInput,
  type Connection,
  MailError,
  parseConnection,
  parseMessage,
} from '@flowpost/core';
import type { z } from 'zod';
import type { NodeDefinition } from '../../node.ts';
import { platformPolicy } from '../fields.ts';
import { diaflowSections } from './sections.ts';
import { type DiaflowFile, diaflowSettingsSchema } from './settings.ts';

type Settings = z.output<typeof diaflowSettingsSchema>;

const hourMs = 3_600_000;

function connectionOf({ credentials, tlsOptions }: Settings): Connection {
  const { host, port, username, password } = credentials;
  const auth =
    username !== undefined && password !== undefined
      ? { kind: 'basic' as const, username, password }
      : undefined;
  if ((username === undefined) !== (password === undefined)) {
    const missing = username === undefined ? 'username' : 'password';
    throw new MailError('CREDENTIAL_INCOMPLETE', `The credentials lack the ${missing}.`, {
      details: { missing: [missing] },
    });
  }
  return parseConnection({ kind: 'smtp', host, port, tls: 'auto', auth, tlsOptions });
}

function fromOf({ credentials: { fromEmail, username } }: Settings) {
  if (fromEmail) return fromEmail;
  if (typeof username === 'string' && username.includes('@')) return username;
  throw new MailError(
    'INPUT_INVALID',
    'credentials.fromEmail: it is needed, because the user name is no address.',
    {
      details: {
        issues: [
          { path: 'credentials.fromEmail', message: 'it is needed, because the user name is no address' },
        ],
      },
    },
  );
}

function attachmentOf(file: DiaflowFile, index: number): AttachmentInput {
  if (typeof file === 'string')
    return /^(?:https?|data):/i.test(file) ? { kind: 'url', url: file } : { kind: 'file', path: file };
  if (file instanceof Uint8Array) return { kind: 'bytes', content: file };
  const { path, url, content, filename = file.name, contentType } = file;
  const common = {
    ...(filename !== undefined && { filename }),
    ...(contentType !== undefined && { contentType }),
  };
  if (content instanceof Uint8Array) return { kind: 'bytes', content, ...common };
  if (content !== undefined) return { kind: 'base64', content, ...common };
  if (url !== undefined) return { kind: 'url', url, ...common };
  if (path !== undefined) return { kind: 'file', path, ...common };
  throw new MailError('ATTACHMENT_INVALID', `attachments[${index}]: it has neither content, url nor path.`, {
    details: { index },
  });
}

const hasTag = (message: string): boolean =>
  /<(?:!doctype|[a-z][a-z0-9]*(?:\s[^<>]*)?\/?|\/[a-z][a-z0-9]*)>/i.test(message);

/** Diaflow's "SMTP" node. */
export const diaflowNode: NodeDefinition<typeof diaflowSettingsSchema> = {
  type: 'diaflow.smtp',
  title: 'SMTP',
  summary: 'Sends an e-mail from a mail account of your own, once an hour at most with the same content.',
  settings: diaflowSettingsSchema,
  sections: diaflowSections,

  toSendRequest(settings) {
    const {
      to,
      cc,
      bcc,
      message,
      messageFormat = hasTag(message) ? 'html' : 'text',
      attachments = [],
    } = settings;
    return {
      connection: connectionOf(settings),
      message: parseMessage({
        ...{ from: fromOf(settings), to, cc, bcc, subject: settings.subject ?? settings.object },
        [messageFormat]: message,
        attachments: attachments.map(attachmentOf),
      }),
      policy: platformPolicy({ loopGuard: true, duplicateWindowMs: hourMs }),
    };
  },

  failurePolicy: () => ({ stopOnError: true, store: undefined }),
  describeError: (error) => error.toJSON(),
};
