import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { EmailMessageInput } from '@flowpost/core';
import { parseMail } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposedMessage, type ComposeOptions, composeMessage } from './compose-message.ts';

const base = { from: 'A <a@x.org>', to: 'b@x.org', subject: 'Hi' } satisfies EmailMessageInput;
const fixed: ComposeOptions = { uniqueId: () => 'unique', now: () => Date.UTC(2026, 10, 21, 10, 5, 9) };

async function bytesOf({ body, sizeBytes }: ComposedMessage): Promise<Buffer> {
  const bytes = Buffer.isBuffer(body) ? body : await buffer(body);
  expect(bytes.length).toBe(sizeBytes);
  expect(bytes.toString('latin1')).not.toMatch(/\r(?!\n)|(?<!\r)\n|\0/);
  for (const line of bytes.toString('latin1').split('\r\n')) expect(line.length).toBeLessThanOrEqual(998);
  return bytes;
}

async function parsed(message: Partial<EmailMessageInput>, options?: ComposeOptions) {
  const composed = await composeMessage({ ...base, ...message }, options);
  const raw = await bytesOf(composed);
  return { composed, raw: raw.toString('utf8'), mail: await parseMail(raw) };
}

describe('the simplest message', () => {
  it('is exactly these bytes', async () => {
    const composed = await composeMessage({ ...base, text: 'Hello\nWorld' }, fixed);
    expect((await bytesOf(composed)).toString()).toBe(
      [
        'From: A <a@x.org>',
        'To: b@x.org',
        'Subject: Hi',
        'Date: Sat, 21 Nov 2026 10:05:09 +0000',
        'Message-ID: <unique@x.org>',
        'MIME-Version: 1.0',
        'Content-Type: text/plain; charset=utf-8',
        'Content-Transfer-Encoding: 7bit',
        '',
        'Hello',
        'World',
        '',
      ].join('\r\n'),
    );
    expect(composed).toMatchObject({
      messageId: '<unique@x.org>',
      date: new Date(Date.UTC(2026, 10, 21, 10, 5, 9)),
      envelope: { from: 'a@x.org', to: ['b@x.org'], smtpUtf8: false },
    });
  });
});

describe('the same message', () => {
  it('has the same bytes each time', async () => {
    const message: EmailMessageInput = {
      ...base,
      messageId: '<fixed.id@x.org>',
      date: '2026-11-21T10:05:09Z',
      html: '<p>x</p>',
      attachments: [{ kind: 'text', content: 'y' }],
    };
    const [first, second] = await Promise.all([composeMessage(message), composeMessage(message)]);
    expect(first.body).toEqual(second.body);
  });

  it('keeps its parts together even when its text knows the boundary', async () => {
    const text = 'x\n--=_fixedxorg_m\nContent-Type: text/html\n\nevil\n--=_1_fixedxorg_m--\n';
    const { mail } = await parsed({
      text,
      messageId: '<fixed@x.org>',
      attachments: [{ kind: 'mime', raw: 'Content-Disposition: attachment\r\n\r\n--=_2_fixedxorg_m--\r\n' }],
    });
    expect(mail.text).toBe(text);
    expect(mail.html).toBeUndefined();
    expect(mail.attachments.map(({ content }) => content.toString().trim())).toEqual(['--=_2_fixedxorg_m--']);
  });
});

describe('structure', () => {
  const structure = (raw: string) =>
    [...raw.matchAll(/^Content-Type: ([a-z]+\/[a-z-]+)/gim)].map(([, type]) => type);
  const png = Buffer.from([0x89, 0x50, 0x4e, 0x47]);

  it.each<[string, Partial<EmailMessageInput>, string[]]>([
    ['nothing', {}, ['text/plain']],
    ['html, which gets a text', { html: '<p>x</p>' }, ['multipart/alternative', 'text/plain', 'text/html']],
    ['text and html', { text: 'x', html: '<p>x</p>' }, ['multipart/alternative', 'text/plain', 'text/html']],
    [
      'text and an attachment',
      { text: 'x', attachments: [{ kind: 'text', content: 'y' }] },
      ['multipart/mixed', 'text/plain', 'text/plain'],
    ],
    [
      'an inline image',
      {
        html: '<img src="cid:logo">',
        attachments: [{ kind: 'bytes', content: png, filename: 'l.png', contentId: 'logo' }],
      },
      ['multipart/alternative', 'text/plain', 'multipart/related', 'text/html', 'image/png'],
    ],
    [
      'everything',
      {
        text: 'x',
        html: '<img src="cid:logo">',
        calendar: { method: 'REQUEST', content: 'BEGIN:VCALENDAR\nEND:VCALENDAR' },
        attachments: [
          { kind: 'bytes', content: png, filename: 'l.png', contentId: 'logo' },
          { kind: 'base64', content: 'AAEC', filename: 'a.pdf' },
        ],
      },
      [
        'multipart/mixed',
        'multipart/alternative',
        'text/plain',
        'multipart/related',
        'text/html',
        'image/png',
        'text/calendar',
        'application/pdf',
        'application/ics',
      ],
    ],
    [
      'an invitation alone',
      { calendar: { method: 'CANCEL', content: 'BEGIN:VCALENDAR\nEND:VCALENDAR' } },
      ['multipart/mixed', 'text/calendar', 'application/ics'],
    ],
    [
      'a MIME node',
      { text: 'x', attachments: [{ kind: 'mime', raw: 'Content-Type: text/x-log\r\n\r\ny' }] },
      ['multipart/mixed', 'text/plain', 'text/x-log'],
    ],
    [
      'an inline MIME node',
      {
        text: 'x',
        html: '<img src="cid:a">',
        attachments: [{ kind: 'mime', raw: 'Content-Type: image/svg+xml\r\nContent-ID: <a>\r\n\r\n<svg/>' }],
      },
      ['multipart/alternative', 'text/plain', 'multipart/related', 'text/html', 'image/svg'],
    ],
  ])('%s', async (_, message, types) => {
    expect(structure((await parsed(message)).raw)).toEqual(types);
  });

  it('a content id without HTML is an ordinary attachment', async () => {
    const { raw } = await parsed({
      text: 'x',
      attachments: [{ kind: 'text', content: 'y', contentId: 'z' }],
    });
    expect(structure(raw)).toEqual(['multipart/mixed', 'text/plain', 'text/plain']);
  });
});

describe('headers', () => {
  it('never name Bcc recipients, who are in the envelope once', async () => {
    const { composed, raw } = await parsed({ cc: 'c@x.org', bcc: ['secret@x.org', 'b@x.org'] });
    expect(composed.envelope.to).toEqual(['b@x.org', 'c@x.org', 'secret@x.org']);
    expect(raw).not.toMatch(/bcc|secret/i);
  });

  it('say undisclosed recipients when there is only Bcc', async () => {
    expect((await parsed({ to: [], bcc: 'secret@x.org' })).raw).toContain(
      '\r\nTo: undisclosed-recipients:;\r\n',
    );
  });

  it('carry priority, threading and automation', async () => {
    const { mail } = await parsed({
      priority: 'high',
      sender: 's@x.org',
      replyTo: 'R <r@x.org>',
      inReplyTo: '<1@x.org>',
      references: ['<0@x.org>', '<1@x.org>'],
      autoSubmitted: 'auto-generated',
      headers: { 'X-One': 'a', 'X-Two': ['b', 'ü'] },
      unsubscribe: { url: 'https://x.org/u?t=1', mailto: 'off@x.org' },
    });
    const lines = [...mail.headers.values()].flat();
    expect(lines).toEqual(
      expect.arrayContaining([
        'X-Priority: 1 (Highest)',
        'Importance: High',
        'Priority: urgent',
        'Sender: s@x.org',
        'Reply-To: R <r@x.org>',
        'In-Reply-To: <1@x.org>',
        'References: <0@x.org> <1@x.org>',
        'Auto-Submitted: auto-generated',
        'X-One: a',
        'X-Two: b',
        'X-Two: =?UTF-8?B?w7w=?=',
        'List-Unsubscribe: <https://x.org/u?t=1>, <mailto:off@x.org>',
        'List-Unsubscribe-Post: List-Unsubscribe=One-Click',
      ]),
    );
  });

  it('give the sender as the envelope sender', async () => {
    expect((await parsed({ sender: 's@x.org' })).composed.envelope.from).toBe('s@x.org');
  });

  it.each([
    [{ inReplyTo: '<1@x.org>' }, '<1@x.org>'],
    [{ inReplyTo: '<1@x.org>', references: '<0@x.org> <a@x.org>' }, '<0@x.org> <a@x.org> <1@x.org>'],
    [{ inReplyTo: '<1@x.org>', references: ['<1@x.org>', '<2@x.org>'] }, '<1@x.org> <2@x.org>'],
    [{ references: ['<0@x.org>'] }, '<0@x.org>'],
    [{}, undefined],
  ])('belong to a thread with the message answered as its last: %j', async (given, references) => {
    const { mail } = await parsed(given);
    expect(mail.headers.get('references')).toEqual(references && [`References: ${references}`]);
  });

  it('name no sender who is the author', async () => {
    expect((await parsed({ sender: 'a@x.org' })).raw).not.toContain('Sender:');
    expect((await parsed({ sender: 'A <a@x.org>' })).raw).not.toContain('Sender:');
    expect((await parsed({ sender: 'Robot <a@x.org>' })).raw).toContain('Sender: Robot <a@x.org>\r\n');
  });

  it('leave the priority to an author who writes it himself', async () => {
    const { raw } = await parsed({ priority: 'high', headers: { 'x-priority': '2', Importance: 'normal' } });
    expect(raw.match(/^(?:x-priority|importance|priority):.*/gim)).toEqual([
      'Priority: urgent',
      'x-priority: 2',
      'Importance: normal',
    ]);
  });

  it.each([
    'Счёт № 42 от 25 ноября 2026 года за услуги «Ромашка» для вашей компании',
    '🎉'.repeat(80),
    'öа🎉'.repeat(40),
  ])('write words in base64 that need no padding but for the last (%#)', async (subject) => {
    const { raw, mail } = await parsed({ subject });
    expect(mail.subject).toBe(subject);
    const words = raw.match(/=\?UTF-8\?B\?[^?]*\?=/g) ?? [];
    expect(words.length).toBeGreaterThan(1);
    for (const word of words.slice(0, -1)) expect(word).toMatch(/[^=]\?=$/);
  });

  it.each([
    ['run.py', 'text/x-python'],
    ['Run.SH', 'application/x-sh'],
    ['part.stl', 'model/stl'],
    ['a.pdf', 'application/pdf'],
    ['constructor', 'application/octet-stream'],
    ['a.constructor', 'application/octet-stream'],
  ])('say of %s that it is %s', async (filename, type) => {
    const { raw } = await parsed({ attachments: [{ kind: 'base64', content: 'AAECAw==', filename }] });
    expect(raw).toContain(`Content-Type: ${type};`);
  });

  it('cut a long name of a file between its characters', async () => {
    const filename = `${'日本語の長い名前'.repeat(15)}.txt`;
    const { raw, mail } = await parsed({
      attachments: [{ kind: 'text', content: 'x', filename }],
    });
    expect(mail.attachments[0]?.filename).toBe(filename);
    const pieces = [...raw.matchAll(/filename\*\d+\*=(?:utf-8'')?([^;\r]*)/g)].map(([, piece = '']) => piece);
    expect(pieces.length).toBeGreaterThan(5);
    expect(pieces.map(decodeURIComponent).join('')).toBe(filename);
  });

  it('write IDN domains as A-labels, and ask for SMTPUTF8 only for a local part', async () => {
    const idn = await parsed({ to: 'Jürgen <j@münchen.de>' });
    expect(idn.composed.envelope).toEqual({ from: 'a@x.org', to: ['j@xn--mnchen-3ya.de'], smtpUtf8: false });
    expect(idn.raw).toContain('To: =?UTF-8?Q?J=C3=BCrgen?= <j@xn--mnchen-3ya.de>\r\n');
    const local = await parsed({ to: 'jörg@x.org' });
    expect(local.composed.envelope).toMatchObject({ to: ['jörg@x.org'], smtpUtf8: true });
    expect(local.raw).toContain('To: jörg@x.org\r\n');
  });

  it('ask for SMTPUTF8 when any written address needs it', async () => {
    for (const change of [
      { replyTo: 'é@x.org' },
      { from: 'é@x.org', sender: 's@x.org' },
      { cc: 'é@x.org' },
    ]) {
      expect((await parsed(change)).composed.envelope.smtpUtf8).toBe(true);
    }
  });

  it('name a recipient once, however its domain is spelled', async () => {
    const { composed } = await parsed({
      to: 'b@x.org, b@X.ORG',
      cc: 'B@x.org',
      bcc: 'c@münchen.de, c@xn--mnchen-3ya.de',
    });
    expect(composed.envelope.to).toEqual(['b@x.org', 'B@x.org', 'c@xn--mnchen-3ya.de']);
  });

  it.each([`a${' '.repeat(2_000)}b`, `${'x'.repeat(1_500)} y`, 'ü'.repeat(1_000)])(
    'keep %.10j... within the line length',
    async (value) => {
      const { mail } = await parsed({ subject: value, headers: { [`X-${'n'.repeat(74)}`]: value } });
      expect(mail.subject).toBe(value);
    },
  );

  it('write a mailto URL whose address cannot be cut short', async () => {
    const { raw } = await parsed({ unsubscribe: { mailto: 'a#b?c@x.org' } });
    expect(raw).toContain('List-Unsubscribe: <mailto:a%23b%3Fc@x.org>\r\n');
  });

  it('fold long lists and subjects within 76 characters', async () => {
    const to = Array.from(
      { length: 50 },
      (_, index) => `Person Number ${index} <person${index}@example.com>`,
    );
    const { mail, raw } = await parsed({ to, subject: 'word '.repeat(60).trim() });
    expect(mail.to).toHaveLength(50);
    expect(mail.subject).toBe('word '.repeat(60).trim());
    for (const line of raw.split('\r\n')) expect(line.length).toBeLessThanOrEqual(76);
  });

  it.each(['a\r\nBcc: e@x.org', 'a\nb', 'a\0b'])('refuse %j in a subject', async (subject) => {
    await expect(composeMessage({ ...base, subject })).rejects.toMatchObject({ code: 'HEADER_INVALID' });
  });
});

describe('bodies', () => {
  it.each([
    ['7bit', 'plain'],
    ['quoted-printable', `Grüße${' und so weiter'.repeat(9)}`],
    ['base64', 'Привет, мир'],
    ['quoted-printable', 'x'.repeat(1_200)],
    ['quoted-printable', 'a form feed \f here'],
  ])('%s for %.20j', async (encoding, text) => {
    const { mail, raw } = await parsed({ text });
    expect(raw).toContain(`Content-Transfer-Encoding: ${encoding}\r\n`);
    expect(mail.text).toBe(text + (encoding === 'base64' ? '' : '\n'));
  });
});

describe('text made from HTML', () => {
  const textOf = async (html: string) => (await parsed({ html })).mail.text;

  it('keeps words, links, lists and the alternative texts of pictures', async () => {
    const html = `<h1>Hello</h1><p>Dear <b>Ann</b>,<br>see <a href="https://x.org/a?b=1&amp;c=2">the page</a> and
      <a href="https://x.org/">https://x.org/</a>.</p><ul><li>one<li>two</ul><img src="cid:logo" alt="Our logo">
      <style>p { color: red }</style><script>alert(1)</script>`;
    expect(await textOf(html)).toBe(
      'Hello\n\nDear Ann,\nsee the page [https://x.org/a?b=1&c=2] and https://x.org/.\n\n * one\n * two\n\nOur logo',
    );
  });

  it.each([
    [
      '<ol>\n<li>Mix</li>\n<ol>\n<li>flour</li>\n<li>eggs</li>\n</ol>\n<li>Bake</li>\n</ol>',
      /1\. +Mix\n +1\. +flour\n +2\. +eggs\n\n? 2\. +Bake/,
    ],
    ['<ol><div>Note: x</div><li>a</li></ol>', /Note: x\n 1\. +a/],
    ['<ol><a href="https://x.org/1"><li>linked</li></a></ol>', /linked \[https:\/\/x\.org\/1\]/],
    [
      '<a href="https://x.org/c?t=1"><img src="b.png" alt="Confirm"></a>',
      /^Confirm \[https:\/\/x\.org\/c\?t=1\]$/,
    ],
    ['<center>Title</center>Text', /^Title\nText$/],
    ['<address>Street 1</address><address>City</address>', /^Street 1\nCity$/],
    ['<menu><li>a</li><li>b</li></menu>', /\* a\n \* b/],
    ['<details><summary>Total</summary>12</details>', /^Total\n12$/],
    [
      `<table>${'<tr><td>M&uuml;ller &amp; S&ouml;hne</td><td>10&nbsp;&euro;</td><td><a href="https://x.org/?a=1&amp;b=2">more</a></td></tr>'.repeat(4_000)}</table>`,
      /^(?:Müller & Söhne 10 € more \[https:\/\/x\.org\/\?a=1&b=2\]\n?){4000}$/,
    ],
    [`${'<table><tr><td>'.repeat(80)}deep`, /^deep$/],
  ])('loses nothing: %.60s', async (html, expected) => {
    expect((await textOf(html))?.trim()).toMatch(expected);
  });

  it('is not made when there is one, an empty one included', async () => {
    const { raw } = await parsed({ html: '<p>unique</p>', text: '' });
    expect(raw.split('unique')).toHaveLength(2);
  });

  it.each([
    ['<table><tr><td rowspan="1000000000" colspan="1000000000">a</td><td>b</td></tr></table>', 'a b'],
    ['<ol type="i" start="100000000000"><li>a<li>b</ol>', ' 1.  a\n 2.  b'],
    [`${'<b>'.repeat(50_000)}x${'</i>'.repeat(50_000)}`, 'x'],
    [`${'<'.repeat(100_000)}x`, '<'.repeat(99_999)],
    [
      `<STYLE>p{}</style><script>1</script><!-- no --><p>a &lt; b &amp;amp; c</p>${'<b></b>'.repeat(11_000)}`,
      'a < b &amp; c',
    ],
  ])('takes hostile HTML: %#', async (html, expected) => {
    expect((await textOf(html))?.trimEnd()).toBe(expected);
  });

  it('takes deeply nested and very long HTML', async () => {
    expect(await textOf(`${'<div>'.repeat(5_000)}deep${'</div>'.repeat(5_000)}`)).toBe('deep');
    expect(await textOf(`<p>${'word '.repeat(100_000)}end</p>`)).toMatch(/end$/);
  });
});

it('what no text shows is an attachment, whatever id it has', async () => {
  const attachments = [{ kind: 'text' as const, content: 'report\n', filename: 'r.txt', contentId: 'r1' }];
  const { raw, mail } = await parsed({ text: 'See the report.', attachments });
  expect(raw).toContain('Content-Disposition: attachment; filename="r.txt"');
  expect(raw).toContain('Content-ID: <r1>');
  expect(mail.text).toBe('See the report.');
  const { raw: shown } = await parsed({ html: '<img src="cid:r1">', attachments });
  expect(shown).toContain('Content-Disposition: inline; filename="r.txt"');
});

it('a calendar says what it is for, in itself as in its header', async () => {
  const content = 'BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n';
  const { raw } = await parsed({ calendar: { method: 'REQUEST', content } });
  expect(raw).toContain('BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nVERSION:2.0\r\n');
  const own = content.replace('VERSION', 'METHOD:CANCEL\r\nVERSION');
  const { raw: old } = await parsed({
    calendar: { method: 'REQUEST', content: content.replace(/\r?\n/g, '\r') },
  });
  expect(old).toContain('\r\nMETHOD:REQUEST\r\n');
  const { raw: kept } = await parsed({ calendar: { method: 'CANCEL', content: own } });
  expect(kept.match(/METHOD:/g)).toHaveLength(1);
});

it('addresses and ids in headers of the author are not encoded', async () => {
  const headers = {
    'Disposition-Notification-To': 'Jörg Müller <joerg@x.example>',
    'Resent-To': ['b@x.org, Änne <c@x.org>'],
    'List-Id': 'Grüße von uns <news.x.example>',
    'X-List-Id': 'Grüße<news.x.example>',
    'X-Note': 'Grüße < Küsse',
    'X-Size': 'Größe<XL>',
    'X-Gap': 'Größe\u00a0 <XL>',
  };
  const { raw } = await parsed({ headers, text: 'x' });
  const unfolded = raw.replace(/\r\n[ \t]/g, ' ');
  expect(unfolded).toMatch(/^Disposition-Notification-To: =\?UTF-8\?\S+\?= <joerg@x\.example>\r$/m);
  expect(unfolded).toMatch(/^Resent-To: b@x\.org, =\?UTF-8\?\S+\?= <c@x\.org>\r$/m);
  expect(unfolded).toMatch(/^List-Id: =\?UTF-8\?\S+\?= <news\.x\.example>\r$/m);
  expect(unfolded).toMatch(/^X-Note: =\?UTF-8\?\S+\?=\r$/m);
  expect(unfolded).toMatch(/^X-List-Id: =\?UTF-8\?\S+\?= <news\.x\.example>\r$/m);
  // What is no white space in a header stays, and none is added.
  expect(unfolded).toContain(`X-Size: =?UTF-8?B?${Buffer.from('Größe<XL>').toString('base64')}?=\r\n`);
  expect(unfolded).toContain(`X-Gap: =?UTF-8?B?${Buffer.from('Größe\u00a0').toString('base64')}?= <XL>\r\n`);
});

describe('attachments', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('keep their exact bytes, names and types', async () => {
    const { mail } = await parsed({
      attachments: [
        { kind: 'text', content: 'a,b\n1,2\r\n', filename: 'data.csv' },
        { kind: 'base64', content: 'AAEC\n_w==', filename: 'Größe "1".bin' },
        { kind: 'custom', content: 'BEGIN:VCARD', contentType: 'text/vcard', filename: 'a.vcf' },
      ],
    });
    expect(
      mail.attachments.map(({ filename, contentType, content }) => [filename, contentType, [...content]]),
    ).toEqual([
      ['data.csv', 'text/csv', [...Buffer.from('a,b\n1,2\r\n')]],
      ['Größe "1".bin', 'application/octet-stream', [0, 1, 2, 255]],
      ['a.vcf', 'text/vcard', [...Buffer.from('BEGIN:VCARD')]],
    ]);
  });

  it('a message as an attachment goes as it is, or as a file', async () => {
    const eml = 'From: a@x.org\r\nSubject: inner\r\n\r\nHello\r\n';
    const asIs = await parsed({
      text: 'x',
      attachments: [{ kind: 'text', content: eml, filename: 'a.eml' }],
    });
    expect(asIs.raw).toMatch(/Content-Type: message\/rfc822;[\s\S]*?Content-Transfer-Encoding: 7bit\r\n/);
    const asFile = await parsed({
      text: 'x',
      attachments: [{ kind: 'text', content: `${eml}ü\n`, filename: 'a.eml' }],
    });
    expect(asFile.raw).toContain(
      'Content-Type: application/octet-stream; name="a.eml"\r\nContent-Transfer-Encoding: base64',
    );
    expect(asFile.mail.attachments[0]?.content.toString()).toBe(`${eml}ü\n`);
  });

  it('one that fails at once leaves no other failure unhandled', async () => {
    const unhandled: unknown[] = [];
    const onUnhandled = (reason: unknown): unknown => unhandled.push(reason);
    process.on('unhandledRejection', onUnhandled);
    const attachments: EmailMessageInput['attachments'] = [
      { kind: 'file', path: 'missing.txt' },
      { kind: 'base64', content: '!!!' },
    ];
    await expect(composeMessage({ ...base, attachments })).rejects.toMatchObject({ category: 'attachment' });
    // The same file fails the same way a second time, and by then the first failure is out too.
    const again = composeMessage({ ...base, attachments: attachments.slice(0, 1) });
    await expect(again).rejects.toMatchObject({ code: 'ATTACHMENT_NOT_FOUND' });
    await new Promise(setImmediate);
    process.off('unhandledRejection', onUnhandled);
    expect(unhandled).toEqual([]);
  });

  it('stream when they are large, with the size known before', async () => {
    const content = Buffer.alloc(3_000_001, 'flowpost');
    await writeFile(join(folder, 'large.bin'), content);
    const { composed, mail } = await parsed(
      { text: 'x', attachments: [{ kind: 'file', path: 'large.bin' }] },
      { attachments: { baseFolder: folder, fileRoots: [folder] } },
    );
    expect(Buffer.isBuffer(composed.body)).toBe(false);
    expect(mail.attachments[0]?.content.equals(content)).toBe(true);
    expect(mail.attachments[0]?.filename).toBe('large.bin');
  });

  it('a large file replaced by a link gives no byte of what the link leads to', async () => {
    const path = join(folder, 'replaced.bin');
    const outside = join(folder, 'elsewhere.bin');
    for (const one of [path, outside]) await writeFile(one, Buffer.alloc(2_000_000));
    const composed = await composeMessage(
      { ...base, attachments: [{ kind: 'file', path }] },
      { attachments: { fileRoots: [folder] } },
    );
    await rm(path);
    await symlink(outside, path);
    await expect(buffer(composed.body as NodeJS.ReadableStream)).rejects.toMatchObject({
      code: 'ATTACHMENT_CHANGED',
    });
  });

  it('a large file that is written to while it is sent fails the stream', async () => {
    const path = join(folder, 'written.bin');
    await writeFile(path, Buffer.alloc(4_000_000, 1));
    const options = { attachments: { fileRoots: [folder] } };
    const composed = await composeMessage({ ...base, attachments: [{ kind: 'file', path }] }, options);
    const reading = async () => {
      let size = 0;
      for await (const chunk of composed.body as NodeJS.ReadableStream) {
        const isHere = size < 500_000 && size + chunk.length >= 500_000;
        size += chunk.length;
        if (isHere) await writeFile(path, Buffer.alloc(4_000_000, 2));
      }
    };
    await expect(reading()).rejects.toMatchObject({ code: 'ATTACHMENT_CHANGED' });
  });

  it('a large file that changes between composing and sending fails the stream', async () => {
    const path = join(folder, 'changing.bin');
    await writeFile(path, Buffer.alloc(2_000_000));
    const options = { attachments: { fileRoots: [folder] } };
    const composed = await composeMessage({ ...base, attachments: [{ kind: 'file', path }] }, options);
    await writeFile(path, Buffer.alloc(1_999_999));
    expect(Buffer.isBuffer(composed.body)).toBe(false);
    await expect(buffer(composed.body as NodeJS.ReadableStream)).rejects.toMatchObject({
      code: 'ATTACHMENT_CHANGED',
      details: { position: 1, name: path },
    });
  });
});

describe('what others write loosely', () => {
  const attached = (attachment: object) =>
    parsed({ text: 'x', attachments: [attachment] } as Partial<EmailMessageInput>);
  const refused = (message: object) => expect(parsed(message as Partial<EmailMessageInput>)).rejects;

  it('a type with a tab, a word that is no parameter, a name of its own', async () => {
    const csv = { kind: 'text', content: 'a', filename: 'a.csv', contentType: 'text/csv;\tcharset=utf-8' };
    expect((await attached(csv)).mail.attachments[0]?.contentType).toBe('text/csv');
    const url = 'data:image/svg+xml;utf8;name="x.exe",<svg/>';
    const { mail } = await attached({ kind: 'url', url, filename: 'logo.svg' });
    expect(mail.attachments[0]).toMatchObject({ contentType: 'image/svg+xml', filename: 'logo.svg' });
  });

  it('text is in the charset its type names, or refused', async () => {
    const latin = {
      kind: 'text',
      content: 'Gr\u00fc\u00dfe',
      filename: 'a.csv',
      contentType: 'text/csv; charset=iso-8859-1',
    };
    const { composed } = await attached(latin);
    expect(String(composed.body)).toContain(Buffer.from('Gr\u00fc\u00dfe', 'latin1').toString('base64'));
    await refused({ text: 'x', attachments: [{ ...latin, content: '\u20ac' }] }).toMatchObject({
      code: 'ATTACHMENT_INVALID',
    });
  });

  it('a calendar that says another method than its part', async () => {
    const calendar = {
      method: 'REQUEST',
      content: 'BEGIN:VCALENDAR\r\nMETH\r\n OD:CANCEL\r\nEND:VCALENDAR\r\n',
    };
    await refused({ text: 'x', calendar }).toMatchObject({ code: 'INPUT_INVALID' });
  });

  it.each([
    ['after its end', '--b--\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello'],
    ['with an end within a line', '--b\r\nContent-Type: text/plain\r\n\r\nhello --b--'],
  ])('a multipart whose content is %s', async (_, body) => {
    const raw = `Content-Type: multipart/mixed; boundary=b\r\n\r\n${body}`;
    await refused({ text: 'x', attachments: [{ kind: 'mime', raw }] }).toMatchObject({
      code: 'ATTACHMENT_INVALID',
    });
  });

  it('quoted-printable that is none', async () => {
    const raw =
      'Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n100=% sure=\r\n';
    await refused({ text: 'x', attachments: [{ kind: 'mime', raw }] }).toMatchObject({
      code: 'ATTACHMENT_INVALID',
    });
  });

  it('a page with something around its body, and lists of terms', async () => {
    const html =
      'Dear Ann,<br><html><head><title>T</title></head><body><p>Invoice.</p><dl><dt>Price</dt><dd>10</dd></dl></body></html><p>Bob</p>';
    const { mail } = await parsed({ html, text: undefined } as never);
    expect(mail.text?.replace(/\s+/g, ' ').trim()).toBe('Dear Ann, Invoice. Price 10 Bob');
  });

  it.each([
    '<html><head><meta charset="utf-8"><style>p{}</style><div>Your code is 1234</div></html>',
    '<head/><p>Your code is 1234</p>',
    '<head><title>No</title><table><tr><td>Your code is 1234</table>',
    '<template><p>No</p></template>Your code is 1234',
  ])('%s has a text', async (html) => {
    const { mail } = await parsed({ html, text: undefined } as never);
    expect(mail.text?.trim()).toBe('Your code is 1234');
  });

  it('references without anything between them, or with commas', async () => {
    const { raw } = await parsed({ text: 'x', references: '<a@b><c,1@d>, <e@f> , <g@h>' as never });
    expect(raw).toContain('References: <a@b> <c,1@d> <e@f> <g@h>\r\n');
  });

  it.each(['utf-16', 'UTF-16BE', 'utf-32', 'UCS-2'])(
    'ASCII under %s, which writes it in several bytes',
    (charset) =>
      refused({
        text: 'x',
        attachments: [{ kind: 'custom', content: 'a,b', contentType: `text/csv; charset=${charset}` }],
      }).toMatchObject({ code: 'ATTACHMENT_INVALID' }),
  );

  it('text in UTF-16LE', async () => {
    const { composed } = await attached({
      kind: 'custom',
      content: 'a\u20ac',
      contentType: 'text/csv; charset="UTF-16LE"',
    });
    expect(String(composed.body)).toContain(Buffer.from('a\u20ac', 'utf16le').toString('base64'));
  });
});

// What takes time with the square of its length takes minutes for these.
describe('long runs of white space', () => {
  const spaces = ' '.repeat(300_000);

  it.each(['\u00fc', 'a', '\u00fc <a@b.org>'])('in a header after %s', async (begin) => {
    const { mail } = await parsed({ text: 'x', headers: { 'X-Note': `${begin}${spaces}x` } });
    expect(mail.messageId).toBeDefined();
  });

  it('and elements whose names begin as those of hidden ones do', async () => {
    const hidden = '<title>İİ</title ><STYLE media=x>İ.a{}</STYLE\n><script>1</script\t>';
    const html = `${hidden}<titlebar>Important</titlebar><p>Your code is 1234</p>${'<b>x</b>'.repeat(10_100)}`;
    const { mail } = await parsed({ html, text: undefined } as never);
    expect(mail.text).toMatch(/^Important\s+Your code is 1234/);
  });

  it('and what only looks like tags, comments and ends of tags', async () => {
    const begin = '<style>a <!-- b </style><p>5 < 6 and 7 > 3</p><!-- <style> -->';
    const html = `${begin}<a title="a>b" href="https://z.org">there</a>${'<b>x</b>'.repeat(10_100)}`;
    const { mail } = await parsed({ html, text: undefined } as never);
    expect(mail.text).toMatch(/^5 < 6 and 7 > 3\s+there \[https:\/\/z\.org\]/);
  });

  it.each([
    '<td width=50%">Cell one</td><p>Pay 100 EUR</p><a href="https://x.example">link</a><p>Bye</p>',
    '<a href="https://x.example"">link</a><p>Pay 100 EUR</p><p class="b">Bye</p>',
    "<p title=it's>Hello</p><p>Pay 100 EUR</p><p>That's all</p><p>Bye</p>",
    '<p title="5 > 3" class=\'a"b\'>Pay 100 EUR</p>Bye',
  ])('where quotes stand as they should not: %s', async (html) => {
    const { mail } = await parsed({ html: `${html}${'<b></b>'.repeat(10_100)}`, text: undefined } as never);
    expect(mail.text).toMatch(/Pay 100 EUR\s+(?:That's all\s+|link \S+\s+)?Bye/);
    expect(mail.text).not.toMatch(/[">]/);
  });

  it('with tags of any length', async () => {
    const html = `<img src=data:image/png;base64,${'A'.repeat(9_000_000)}>Hi${'<b></b>'.repeat(10_100)}`;
    const { mail } = await parsed({ html, text: undefined } as never);
    expect(mail.text?.trim()).toBe('Hi');
  });

  it('in HTML that is nested too deeply to be converted', async () => {
    const html = `${'<div>'.repeat(300)}${'&nbsp;'.repeat(300_000)}x`;
    const { mail } = await parsed({ html, text: undefined } as never);
    expect(mail.text?.trim()).toBe('x');
  });
});

it.each([40, 50, 51, 52, 60, 76])(
  'encoded words beside a header name of %d characters are in lines of 76',
  async (length) => {
    const name = `X-${'a'.repeat(length - 2)}`;
    const value = 'Grüße 😀 an alle, die das hier lesen und noch viel mehr';
    const { raw } = await parsed({ text: 'x', headers: { [name]: value } });
    const lines = raw.slice(raw.indexOf(name)).split('\r\n');
    for (const line of lines.filter((one) => one.includes('=?'))) expect(line.length).toBeLessThanOrEqual(76);
    const words = [...raw.matchAll(/=\?UTF-8\?Q\?(.*?)\?=/g)].map(([, word = '']) => word).join('');
    expect(decodeURIComponent(words.replaceAll('_', ' ').replaceAll('=', '%'))).toBe(value);
  },
);

it('an address in a header of the author counts for SMTPUTF8', async () => {
  const headers = { 'Disposition-Notification-To': 'j\u00f6rg@x.org' };
  const { composed } = await parsed({ text: 'x', headers });
  expect(composed.envelope.smtpUtf8).toBe(true);
});
