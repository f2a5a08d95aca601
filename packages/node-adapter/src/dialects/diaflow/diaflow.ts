import { isUtf8 } from 'node:buffer';
import { types } from 'node:util';
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
import { type DiaflowFile, diaflowSettingsSchema, messageFormatSchema } from './settings.ts';

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
  const path = 'credentials.fromEmail';
  const message = `it is needed, because ${username === undefined ? 'nobody logs in' : 'the user name is no address'}`;
  throw new MailError('INPUT_INVALID', `${path}: ${message}.`, { details: { issues: [{ path, message }] } });
}

/** Whether text can be Base64 (RFC 4648 section 4): its alphabet, complete, with nothing in between but line ends. */
const isBase64 = (content: string): boolean => {
  const joined = content.replace(/\r?\n/g, '');
  return joined.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(joined);
};

const textName = /\.(?:txt|text|csv|tsv|json|xml|html?|md|log|ya?ml|ics|eml|css|m?js|ts|svg|sql|ini|conf)$/i;
const textType = /^(?:text\/|message\/|application\/(?:[\w.+-]+\+)?(?:json|xml|yaml|javascript)\b)/i;
/** Words and digests are shorter. */
const longBase64 = 100;

/** What a content is that does not say: a word such as `done` can be Base64 too, and would be destroyed if it were taken for it. */
function kindOf(content: string, filename = '', contentType = ''): 'base64' | 'text' {
  if (!isBase64(content)) return 'text';
  const isText = contentType === '' ? textName.test(filename) : textType.test(contentType);
  const isBinary = !isText && (contentType !== '' || /\.\w+$/.test(filename));
  if (isBinary || (!isText && content.length >= longBase64)) return 'base64';
  // What makes sense when it is decoded was encoded.
  const decoded = Buffer.from(content, 'base64');
  return isUtf8(decoded) && !/[^\t\r\n\x20-\x7e\xa0-\uffff]/.test(decoded.toString()) ? 'base64' : 'text';
}

function attachmentOf(file: DiaflowFile, index: number): AttachmentInput {
  if (typeof file === 'string') {
    const url = file.trim();
    return /^(?:https?|data):/i.test(url) ? { kind: 'url', url } : { kind: 'file', path: file };
  }
  if (types.isUint8Array(file)) return { kind: 'bytes', content: file };
  const { path, url, encoding } = file;
  const filename = file.filename ?? file.fileName ?? file.name;
  const contentType = file.contentType ?? file.mimeType ?? file.mimetype;
  const hasOther = path !== undefined || url !== undefined;
  const content = file.content === '' && hasOther ? undefined : (file.content ?? undefined);
  const common = {
    ...(filename !== undefined && { filename }),
    ...(contentType !== undefined && { contentType }),
  };
  if (types.isUint8Array(content)) return { kind: 'bytes', content, ...common };
  if (content !== undefined) {
    const kind = encoding ?? kindOf(content, filename, contentType);
    return { kind, content, ...common };
  }
  if (url !== undefined) return { kind: 'url', url, ...common };
  if (path !== undefined) return { kind: 'file', path, ...common };
  throw new MailError('ATTACHMENT_INVALID', `attachments[${index}]: it has neither content, url nor path.`, {
    details: { index },
  });
}

/** Elements a message may have in it; `<Ann>` or `<ann@example.com>` is none. */
const elements =
  'a abbr address article b big blockquote body br button caption center cite code col colgroup dd del details div dl dt em ' +
  'figcaption figure font footer h1 h2 h3 h4 h5 h6 head header hr html i img ins kbd li link main mark meta nav ol p pre q s ' +
  'samp section small span strike strong style sub summary sup table tbody td tfoot th thead title tr tt u ul var';
const tag = new RegExp(`<(?:!doctype html|/?(?:${elements.replaceAll(' ', '|')})(?:\\s[^<>]*)?/?)>`, 'i');
const hasTag = (message: string): boolean => tag.test(message);

/**
 * What the author wrote decides, not what the flow puts into it: a tag in somebody's name makes no HTML of a plain message. Only
 * a message that is one expression is what its value is.
 */
function isHtml(written: unknown, value: string): boolean {
  const { message } = (written ?? {}) as { message?: unknown };
  const isWhole = typeof message !== 'string' || /^\s*\{\{(?:(?!\}\}).)*\}\}\s*$/s.test(message);
  return hasTag(isWhole ? value : message);
}

const formatOf = (given: Settings['messageFormat'], written: unknown, value: string): 'html' | 'text' =>
  given ?? (isHtml(written, value) ? 'html' : 'text');

/** Diaflow's "SMTP" node. */
export const diaflowNode: NodeDefinition<typeof diaflowSettingsSchema> = {
  type: 'diaflow.smtp',
  title: 'SMTP',
  summary: 'Sends an e-mail from a mail account of your own, once an hour at most with the same content.',
  settings: diaflowSettingsSchema,
  sections: diaflowSections,

  htmlFields(written, workOut) {
    const { messageFormat } = (written ?? {}) as { messageFormat?: unknown };
    const format = messageFormatSchema.safeParse(workOut({ messageFormat }).messageFormat);
    return formatOf(format.success ? format.data : 'html', written, '') === 'html' ? ['message'] : [];
  },

  toSendRequest(settings, { settings: written }) {
    const { to, cc, bcc, message, attachments = [] } = settings;
    return {
      connection: connectionOf(settings),
      message: parseMessage({
        ...{ from: fromOf(settings), to, cc, bcc, subject: settings.subject ?? settings.object },
        [formatOf(settings.messageFormat, written, message)]: message,
        attachments: attachments.map(attachmentOf),
      }),
      policy: platformPolicy({ loopGuard: true, duplicateWindowMs: hourMs }),
    };
  },

  // There is no setting that switches its loop guard off.
  describeError: (error) => ({
    ...error.toJSON(),
    ...(error.code === 'MAIL_LOOP_BLOCKED' && {
      hint: 'Send to another address than that of the message which started the flow.',
    }),
    ...(error.code === 'MAIL_LOOP_AUTOMATIC' && {
      hint: 'Filter automatic replies and bulk mail out before the flow.',
    }),
  }),
};
