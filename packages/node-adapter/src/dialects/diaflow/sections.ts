import type { NodeSection } from '../../node.ts';

/** The form of Diaflow's "SMTP" node. */
export const diaflowSections: readonly NodeSection[] = [
  {
    title: 'Credentials',
    fields: [
      { name: 'credentials.host', label: 'Host', widget: 'text', required: true },
      {
        name: 'credentials.port',
        label: 'Port',
        widget: 'number',
        required: true,
        help: '465 is TLS from the first byte; 587, 25 and 2525 are STARTTLS.',
      },
      { name: 'credentials.username', label: 'User name', widget: 'text' },
      {
        name: 'credentials.password',
        label: 'Password',
        widget: 'text',
        secret: true,
        help: 'With Gmail an app password.',
      },
      {
        name: 'credentials.fromEmail',
        label: 'From email',
        widget: 'addresses',
        help: 'Left empty, the user name.',
      },
      {
        name: 'tlsOptions',
        label: 'TLS options',
        widget: 'object',
        help: 'A private authority, or a pinned certificate.',
      },
    ],
  },
  {
    title: 'Message',
    fields: [
      {
        name: 'to',
        label: 'To',
        widget: 'addresses',
        help: 'One address, several with commas, or a list from an earlier step.',
      },
      { name: 'cc', label: 'Cc', widget: 'addresses' },
      { name: 'bcc', label: 'Bcc', widget: 'addresses' },
      { name: 'subject', label: 'Object', widget: 'text' },
      { name: 'object', label: 'Object (its other name)', widget: 'text', help: 'The same as the subject.' },
      { name: 'message', label: 'Message', widget: 'multiline' },
      {
        name: 'messageFormat',
        label: 'Format of the message',
        widget: 'select',
        help: 'Left empty, HTML when there is a tag in it.',
        options: [
          { value: 'text', label: 'Plain text' },
          { value: 'html', label: 'HTML' },
        ],
      },
      {
        name: 'attachments',
        label: 'Attachments',
        widget: 'attachments',
        help: 'Paths, URLs, data URLs, or files from earlier steps.',
      },
    ],
  },
];
