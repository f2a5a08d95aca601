import { createPrivateKey } from 'node:crypto';
import type { EmailMessageInput } from '@flowpost/core';
import { expect, it } from 'vitest';
import { type ComposeOptions, composeMessage } from './compose-message.ts';
import { DkimSigner } from './dkim.ts';

// The exact bytes of one message for each feature. A change in them shows in review; `vitest -u` writes them anew.

const base = { from: 'Ann <ann@example.com>', to: 'ben@example.com', subject: 'Hello', text: 'Hi\n' };
const recipients = Array.from({ length: 12 }, (_, index) => `Person ${index} <person${index}@example.com>`);
/** Ed25519 signatures are the same each time. A key for this test only: 32 bytes of 0x42. */
const key = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 0x42)]),
  format: 'der',
  type: 'pkcs8',
});
const dkim = [
  new DkimSigner({
    domain: 'example.com',
    selector: 'test',
    privateKey: String(key.export({ type: 'pkcs8', format: 'pem' })),
  }),
];

const features: Record<string, [Partial<EmailMessageInput>, ComposeOptions?]> = {
  'address-names': [
    {
      from: '"Smith, Ann (Sales)" <ann@example.com>',
      to: ['Jörg Müller <jm@example.com>', '"a \\"b\\" \\\\ c" <q@example.com>', '"odd name"@example.com'],
      cc: { name: '日本語の名前がとても長いので折り返されるはずです', address: 'jp@example.com' },
    },
  ],
  'address-list-folded': [{ to: recipients }],
  'address-idn': [{ to: 'Zoë <z@bücher.example>', cc: 'plain@xn--bcher-kva.example' }],
  'address-smtputf8': [{ to: 'jörg@bücher.example' }],
  'undisclosed-recipients': [{ to: [], bcc: 'hidden@example.com' }],
  'bcc-nowhere': [{ cc: 'c@example.com', bcc: ['hidden@example.com'] }],
  'sender-and-reply-to': [
    { sender: 'robot@example.com', replyTo: ['Desk <desk@example.com>', 'x@example.com'] },
  ],
  'subject-folded': [
    { subject: 'a subject of many words that does not fit into one line of the header at all' },
  ],
  'subject-quoted-words': [
    { subject: 'Grüße aus Köln, mit ein paar Wörtern mehr, als in eine Zeile passen würden' },
  ],
  'subject-base64-words': [{ subject: 'Приветствуем вас в нашем магазине 🎉 с большими скидками' }],
  'subject-looks-encoded': [{ subject: '=?UTF-8?Q?not_encoded?=' }],
  'subject-empty': [{ subject: '' }],
  'priority-high': [{ priority: 'high' }],
  'priority-low': [{ priority: 'low' }],
  threading: [{ inReplyTo: '<2@example.com>', references: ['<1@example.com>', '<2@example.com>'] }],
  'custom-headers': [
    { headers: { 'X-Plain': 'value', 'X-Twice': ['one', 'zwei ü'], 'X-Long': 'word '.repeat(30) } },
  ],
  'list-unsubscribe': [{ unsubscribe: { url: 'https://example.com/u?id=1', mailto: 'off@example.com' } }],
  'list-unsubscribe-mailto': [{ unsubscribe: { mailto: 'off@example.com' } }],
  'auto-submitted': [{ autoSubmitted: 'auto-generated' }],
  'date-and-message-id': [{ date: '2024-02-29T23:59:59+02:00', messageId: '<fixed.1@example.com>' }],
  'text-quoted-printable': [{ text: `Zeile mit ü und Leerzeichen am Ende \n=\n${'lang '.repeat(20)}` }],
  'text-base64': [{ text: 'Только по-русски' }],
  'html-and-text': [{ html: '<p>Hi</p>' }],
  'html-alone': [{ html: '<p>Hi <a href="https://example.com">there</a></p>', text: undefined }],
  invitation: [
    { calendar: { method: 'REQUEST', content: 'BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR\n' } },
  ],
  'attachment-names': [
    {
      attachments: [
        { kind: 'text', content: 'a', filename: 'plain.txt' },
        { kind: 'text', content: 'b', filename: 'Größe "1".txt' },
        { kind: 'text', content: 'c', filename: `${'sehr-langer-Näme-'.repeat(8)}.txt` },
        { kind: 'bytes', content: new Uint8Array([0, 255]), filename: '報告書.pdf' },
      ],
    },
  ],
  'inline-picture': [
    {
      html: '<img src="cid:logo">',
      attachments: [
        { kind: 'base64', content: 'R0lGODlhAQABAAAAACw=', filename: 'l.gif', contentId: 'logo' },
      ],
    },
  ],
  'message-attached': [
    { attachments: [{ kind: 'text', content: 'Subject: inner\r\n\r\nHi\r\n', filename: 'inner.eml' }] },
  ],
  'mime-node': [
    { attachments: [{ kind: 'mime', raw: 'Content-Type: text/x-log\r\nX-Source: job 7\r\n\r\nline\r\n' }] },
  ],
  dkim: [{ html: '<p>Hi</p>' }, { dkim }],
};

it.each(Object.entries(features))('%s', async (name, [message, options]) => {
  const { body } = await composeMessage(
    { ...base, ...message },
    { uniqueId: () => 'unique', now: () => Date.UTC(2026, 10, 21, 10, 5, 9), ...options },
  );
  if (!Buffer.isBuffer(body)) throw new Error('everything was in memory');
  await expect(body.toString('utf8')).toMatchFileSnapshot(`./__golden__/${name}.eml`);
});
