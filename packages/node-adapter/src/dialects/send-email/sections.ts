import type { NodeSection } from '../../node.ts';

/** The form of the `send-email` node. */
export const sendEmailSections: readonly NodeSection[] = [
  {
    title: 'Connection',
    fields: [
      {
        name: 'connection',
        label: 'Mail server',
        widget: 'connection',
        required: true,
        secret: true,
        help: 'A connection URL such as smtps://user:password@smtp.example.com:465, or the fields one by one.',
      },
    ],
  },
  {
    title: 'Message',
    fields: [
      {
        name: 'from',
        label: 'From',
        widget: 'addresses',
        help: 'Left empty, the From address of the connection.',
      },
      { name: 'to', label: 'To', widget: 'addresses' },
      { name: 'cc', label: 'Cc', widget: 'addresses' },
      { name: 'bcc', label: 'Bcc', widget: 'addresses' },
      { name: 'subject', label: 'Subject', widget: 'text' },
      {
        ...{ name: 'html', label: 'HTML content', widget: 'html' },
        help: 'Values within it are escaped. Nothing but one expression is HTML as it stands; there {{ input.comment | escape }} makes text of it.',
      },
      { name: 'text', label: 'Plain text content', widget: 'multiline' },
      { name: 'attachments', label: 'Attachments', widget: 'attachments' },
    ],
  },
  {
    title: 'More headers',
    fields: [
      { name: 'replyTo', label: 'Reply to', widget: 'addresses' },
      { name: 'sender', label: 'Sender', widget: 'addresses', help: 'Who really sends it, when not From.' },
      {
        name: 'priority',
        label: 'Priority',
        widget: 'select',
        default: 'normal',
        options: [
          { value: 'high', label: 'High' },
          { value: 'normal', label: 'Normal' },
          { value: 'low', label: 'Low' },
        ],
      },
      {
        name: 'inReplyTo',
        label: 'In reply to',
        widget: 'text',
        help: 'The Message-ID this message answers.',
      },
      {
        name: 'references',
        label: 'References',
        widget: 'object',
        help: 'The Message-IDs of the conversation before that message.',
      },
      { name: 'messageId', label: 'Message-ID', widget: 'text', help: 'Left empty, a new one.' },
      { name: 'date', label: 'Date', widget: 'text', help: 'An ISO 8601 date and time; left empty, now.' },
      {
        name: 'autoSubmitted',
        label: 'Automatic message',
        widget: 'select',
        help: 'Tells mail programs and other machines not to answer (RFC 3834).',
        options: [
          { value: 'no', label: 'No' },
          { value: 'auto-generated', label: 'Generated' },
          { value: 'auto-replied', label: 'Reply' },
        ],
      },
      { name: 'calendar', label: 'Calendar invitation', widget: 'object' },
      {
        name: 'unsubscribe',
        label: 'Unsubscribe',
        widget: 'object',
        help: 'A one-click URL and a mail address.',
      },
      { name: 'headers', label: 'Further headers', widget: 'headers' },
    ],
  },
  {
    title: 'Result',
    fields: [
      {
        name: 'store',
        label: 'Store the result',
        widget: 'object',
        help: 'Into input or context, at a key.',
      },
      { name: 'stopOnError', label: 'Stop on error', widget: 'checkbox', default: true },
      {
        name: 'async',
        label: 'Do not wait',
        widget: 'checkbox',
        default: false,
        help: 'The flow goes on at once; the message is sent in the background.',
      },
    ],
  },
  {
    title: 'Delivery',
    fields: [
      {
        name: 'onPartial',
        label: 'When a recipient is refused',
        widget: 'select',
        default: 'accept',
        options: [
          { value: 'accept', label: 'Send to the others' },
          { value: 'fail', label: 'Send to nobody' },
        ],
      },
      {
        name: 'retry',
        label: 'Try again',
        widget: 'object',
        help: 'How often at all (attempts), and the waits in between in milliseconds. Only what surely was not delivered.',
      },
      {
        name: 'onDoubt',
        label: 'When delivery is in doubt',
        widget: 'select',
        default: 'hold',
        options: [
          { value: 'hold', label: 'Report it' },
          { value: 'resend', label: 'Send the same message again' },
        ],
      },
      { name: 'closeSession', label: 'Close the session', widget: 'checkbox', default: false },
      {
        name: 'dsn',
        label: 'Delivery notifications',
        widget: 'object',
        help: 'What to be told of the further way of the message (RFC 3461), where the server can.',
      },
      {
        name: 'requireTls',
        label: 'Encrypted all the way or not at all',
        widget: 'checkbox',
        help: 'Asks for REQUIRETLS (RFC 8689); few servers offer it.',
      },
      { name: 'timeoutMs', label: 'Time limit in milliseconds', widget: 'number' },
    ],
  },
  {
    title: 'Guards',
    fields: [
      {
        name: 'loopGuard',
        label: 'Mail-loop guard',
        widget: 'checkbox',
        default: true,
        help: 'In a flow that an e-mail started, nothing is sent back to where it came from.',
      },
      {
        name: 'duplicateWindowMs',
        label: 'Send the same once within (milliseconds)',
        widget: 'number',
        help: 'The same content from the same step comes back with the earlier receipt.',
      },
      {
        name: 'idempotencyKey',
        label: 'Idempotency key',
        widget: 'text',
        help: 'Names what is to be sent once, such as an order number.',
      },
      {
        name: 'sandbox',
        label: 'Sandbox',
        widget: 'object',
        help: 'For trying out: redirectTo one mailbox, or allowDomains only.',
      },
    ],
  },
];
