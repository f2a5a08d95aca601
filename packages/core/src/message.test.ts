import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { isMailError, type MailError } from './errors/mail-error.ts';
import { parseWith, type SchemaIssue } from './errors/schema-error.ts';
import { type EmailMessageInput, sendableMessageSchema } from './message.ts';

const message = { from: 'a@x.org', to: 'b@x.org' };

function refusal(input: unknown): MailError {
  try {
    parseWith(sendableMessageSchema, input);
  } catch (error) {
    if (isMailError(error)) return error;
    throw error;
  }
  throw new Error('accepted');
}

describe('sendableMessageSchema', () => {
  it('fills in the defaults', () => {
    expect(parseWith(sendableMessageSchema, message)).toEqual({
      from: { address: 'a@x.org' },
      to: [{ address: 'b@x.org' }],
      cc: [],
      bcc: [],
      replyTo: [],
      subject: '',
      priority: 'normal',
      attachments: [],
    });
  });

  it('takes what it gave', () => {
    const parsed = parseWith(sendableMessageSchema, { ...message, date: '2026-11-21T10:00:00+01:00' });
    expect(parseWith(sendableMessageSchema, parsed)).toEqual(parsed);
    expect(parsed.date).toEqual(new Date('2026-11-21T09:00:00Z'));
  });

  it('lists every bad field by path', () => {
    const error = refusal({
      from: 'a@',
      to: ['b@x.org', ', c@'],
      subject: 'a\r\nBcc: x@y.z',
      attachments: [{ kind: 'text' }],
      x: 1,
    });
    const paths = (error.details.issues as SchemaIssue[]).map(({ path }) => path);
    expect(error.code).toBe('INPUT_INVALID');
    expect(paths.toSorted()).toEqual(['', 'attachments[0].content', 'from', 'subject', 'to']);
    expect(error.hint).not.toBe('');
  });

  it.each<[string, Partial<EmailMessageInput> | Record<string, unknown>, string, string]>([
    ['no recipients', { to: '' }, 'RECIPIENTS_MISSING', 'to'],
    ['bad addresses', { to: 'a@b, , c@' }, 'ADDRESS_INVALID', 'to'],
    ['two From addresses', { from: 'a@x.org, b@x.org' }, 'INPUT_INVALID', 'from'],
    ['CRLF in the subject', { subject: 'a\r\nb' }, 'HEADER_INVALID', 'subject'],
    ['NUL in the subject', { subject: 'a\0b' }, 'HEADER_INVALID', 'subject'],
    ['a lone surrogate in the subject', { subject: 'a\ud800b' }, 'HEADER_INVALID', 'subject'],
    ['CRLF in a header', { headers: { 'X-A': '1\r\nBcc: e@x.org' } }, 'HEADER_INVALID', 'headers.X-A'],
    ['CRLF in a header name', { headers: { 'X-A\r\nBcc': '1' } }, 'INPUT_INVALID', 'headers.X-A\r\nBcc'],
    ['a header with its own field', { headers: { Bcc: 'e@x.org' } }, 'INPUT_INVALID', 'headers.Bcc'],
    [
      'CRLF in a file name',
      { attachments: [{ kind: 'text', content: '', filename: 'a\r\nb' }] },
      'HEADER_INVALID',
      'attachments[0].filename',
    ],
    [
      'CRLF in a media type',
      { attachments: [{ kind: 'text', content: '', contentType: 'text/plain\r\nX: y' }] },
      'HEADER_INVALID',
      'attachments[0].contentType',
    ],
    ['CRLF in a message id', { messageId: '<a@b>\r\nX: y' }, 'HEADER_INVALID', 'messageId'],
    ['a message id that is not ASCII', { inReplyTo: '<é@x>' }, 'INPUT_INVALID', 'inReplyTo'],
    [
      'a header name without end',
      { headers: { [`X-${'a'.repeat(80)}`]: '1' } },
      'INPUT_INVALID',
      `headers.X-${'a'.repeat(80)}`,
    ],
    [
      'a multipart attachment',
      { attachments: [{ kind: 'text', content: '', contentType: 'multipart/mixed' }] },
      'INPUT_INVALID',
      'attachments[0].contentType',
    ],
    ['a year no calendar has', { date: new Date(8.64e15) }, 'INPUT_INVALID', 'date'],
    ['an unknown priority', { priority: 'urgent' }, 'INPUT_INVALID', 'priority'],
    ['an http unsubscribe URL', { unsubscribe: { url: 'http://x.org' } }, 'INPUT_INVALID', 'unsubscribe.url'],
  ])('refuses %s', (_, change, code, path) => {
    const error = refusal({ ...message, ...change });
    expect(error).toMatchObject({
      code,
      category: 'input',
      phase: 'validate',
      retryable: false,
      inDoubt: false,
    });
    expect((error.details.issues as SchemaIssue[])[0]?.path).toBe(path);
  });

  it.each([
    ['From', /has a field of its own/],
    ['X Bad', /printable ASCII/],
  ])('says what is wrong with the header %s', (name, message) => {
    const input = { from: 'a@x.org', to: 'b@x.org', headers: { [name]: '1' } };
    expect(() => parseWith(sendableMessageSchema, input)).toThrow(message);
  });

  it('calls missing what is not there, and nothing else', () => {
    const schema = z.object({
      list: z.preprocess((value) => [value].flat(), z.array(z.object({ path: z.string() }))),
    });
    expect(() => parseWith(schema, { list: 5 })).toThrow(/list\[0\]: (?!it is missing)/);
    expect(() => parseWith(schema, { list: { path: 5 } })).toThrow(/list\[0\]\.path: (?!it is missing)/);
    expect(() => parseWith(schema, { list: {} })).toThrow('list[0].path: it is missing');
    for (const kind of [undefined, null, ''])
      expect(() =>
        parseWith(sendableMessageSchema, { ...message, attachments: [{ kind }] } as never),
      ).toThrow('attachments[0].kind: it is missing');
    expect(() =>
      parseWith(sendableMessageSchema, { ...message, attachments: [{ kind: 'odd' }] } as never),
    ).toThrow(/attachments\[0\]\.kind: (?!it is missing)/);
  });

  it('carries the position of a bad address', () => {
    expect(refusal({ ...message, to: 'a@b, , c@' }).details.problems).toEqual([
      expect.objectContaining({ part: '', position: 6, entry: 2 }),
      expect.objectContaining({ part: 'c@', position: 8, entry: 3 }),
    ]);
  });
});
