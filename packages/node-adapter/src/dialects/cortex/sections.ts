import type { NodeField } from '../../node.ts';
import { defaultMessage } from './email-message.ts';

/** The message, which both blocks take in the same way. */
export const messageField: NodeField = {
  name: 'EmailMessage',
  label: 'Email Message',
  widget: 'object',
  required: true,
  default: defaultMessage,
  help: 'To, From, Cc, Bcc, Priority, Subject, BodyFormat, Body and Attachments (paths).',
};

export const tlsOptionsField: NodeField = {
  name: 'TlsOptions',
  label: 'TLS options',
  widget: 'object',
  help: 'A private authority, or a pinned certificate.',
};
