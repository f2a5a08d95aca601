import { parseMail } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { composeMessage } from '../compose/compose-message.ts';

const compose = async (raw: string | Buffer<ArrayBuffer>, extra: object = {}) => {
  const attachments = [{ kind: 'mime' as const, raw, ...extra }];
  const { body } = await composeMessage({ from: 'a@x.org', to: 'b@x.org', text: 'hello', attachments });
  if (!Buffer.isBuffer(body)) throw new Error('it was in memory');
  expect(body.toString('latin1')).not.toMatch(/\r(?!\n)|(?<!\r)\n|\0|[\x80-\xff]/);
  return { raw: body.toString('latin1'), mail: await parseMail(body) };
};

describe('a MIME node', () => {
  it('keeps its header and body as they are', async () => {
    const node =
      'Content-Type: text/csv; charset=us-ascii;\r\n name="a.csv"\r\nX-Mark: 1\r\n' +
      'Content-Disposition: attachment; filename="a.csv"\r\n\r\n1,2\r\n3,4\r\n';
    const { raw, mail } = await compose(node);
    expect(raw).toContain(node.replace('\r\n\r\n', '\r\nContent-Transfer-Encoding: 7bit\r\n\r\n'));
    expect(mail.attachments).toMatchObject([
      { filename: 'a.csv', contentType: 'text/csv', content: Buffer.from('1,2\r\n3,4\r\n') },
    ]);
  });

  it('takes a whole multipart', async () => {
    const inner = '--b\r\nContent-Type: text/plain\r\n\r\ninner\r\n--b--\r\n';
    const { mail } = await compose(`Content-Type: multipart/mixed; boundary=b\r\n\r\n${inner}`);
    expect(mail.text).toContain('inner');
  });

  it.each<[string, string | Buffer<ArrayBuffer>, string]>([
    [
      'text in UTF-8',
      'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: attachment\r\n\r\nGrüße',
      'Grüße',
    ],
    ['8bit', 'Content-Type: text/x; charset="UTF-8"\r\nContent-Transfer-Encoding: 8bit\r\n\r\nü', 'ü'],
    ['a long line', `Content-Type: text/x\r\n\r\n${'y'.repeat(1_500)}`, 'y'.repeat(1_500)],
    [
      'base64 in one line',
      `Content-Type: text/x\r\nContent-Transfer-Encoding: base64\r\n\r\n${'QUJD'.repeat(500)}`,
      'ABC'.repeat(500),
    ],
    [
      'bytes',
      Buffer.from([
        ...Buffer.from('Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n'),
        0x80,
        0,
        0xff,
      ]),
      '\ufffd\0\ufffd',
    ],
    [
      'line ends in a binary body',
      'Content-Type: a/b\r\nContent-Transfer-Encoding: binary\r\n\r\nA\rB\nC',
      'A\rB\nC',
    ],
    ['bare line feeds in its body', 'Content-Type: text/x\r\n\r\na\nb\rc', 'a\r\nb\r\nc'],
    ['what was typed into a form', 'Content-Type: text/x;\n charset=utf-8\nX-A: b\n\na\n\nb', 'a\r\n\r\nb'],
  ])('%s gets through unharmed', async (_, node, expected) => {
    const { mail } = await compose(node);
    expect(mail.attachments[0]?.content.toString().trimEnd()).toBe(expected);
  });

  it('takes name, type and content id when its header has none', async () => {
    const extra = { filename: 'a.bin', contentType: 'image/x', contentId: 'pic' };
    const { raw } = await compose('Content-Description: mine\r\n\r\nx', extra);
    expect(raw).toContain(
      'Content-Description: mine\r\nContent-Transfer-Encoding: 7bit\r\nContent-Type: image/x\r\nContent-ID: <pic>\r\n' +
        'Content-Disposition: inline; filename="a.bin"\r\n\r\nx',
    );
  });

  it.each<[string, string | Buffer<ArrayBuffer>, object?]>([
    ['no empty line', 'Content-Type: text/plain'],
    ['bare line feeds in its header', 'Content-Type: text/plain\nX-A: b\r\n\r\nx'],
    ['line feeds only, in bytes', Buffer.from('Content-Type: text/plain\n\nx')],
    ['a bare line feed before a carriage return', 'Content-Type: a/b\nX-A: b\r\nX-B: c\n\nx'],
    ['a bare carriage return in its header', 'Content-Type: text/plain\rBcc: e@x.org\r\n\r\nx'],
    ['a NUL in its header', 'Content-Type: text/plain\0\r\n\r\nx'],
    ['a header of the message', 'Content-Type: text/plain\r\nBcc: e@x.org\r\n\r\nx'],
    ['a folded first line', ' Content-Type: text/plain\r\n\r\nx'],
    ['a line without a name', 'Content-Type: text/plain\r\nhello\r\n\r\nx'],
    ['non-ASCII in its header', 'Content-Description: ü\r\n\r\nx'],
    ['a field twice', 'Content-Type: a/b\r\nContent-Type: c/d\r\n\r\nx'],
    ['a type that is none', 'Content-Type: nonsense\r\n\r\nx'],
    ['a multipart without boundary', 'Content-Type: multipart/mixed\r\n\r\nx'],
    ['a multipart without its end', 'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx'],
    ['8 bit within a multipart', 'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nü\r\n--b--'],
    ['an unknown encoding', 'Content-Transfer-Encoding: x-uuencode\r\n\r\nx'],
    ['broken base64', 'Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n***'],
    [
      '8 bit in quoted-printable',
      'Content-Type: text/x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nü',
    ],
    ['text of an unknown charset', 'Content-Type: text/plain\r\n\r\nü'],
    ['a line that is too long', `X-A: ${'y'.repeat(1_000)}\r\n\r\nx`],
    ['its type twice', 'Content-Type: a/b\r\n\r\nx', { contentType: 'c/d' }],
    ['its id twice', 'Content-ID: <a>\r\n\r\nx', { contentId: 'b' }],
  ])('with %s is refused', async (_, node, extra) => {
    await expect(compose(node, extra)).rejects.toMatchObject({
      code: 'ATTACHMENT_INVALID',
      phase: 'attachments',
      details: { position: 1 },
    });
  });
});
