import { execFileSync, spawnSync } from 'node:child_process';
import type { EmailMessageInput } from '@flowpost/core';
import { parseMail } from '@flowpost/testing';
import fc from 'fast-check';
import PostalMime from 'postal-mime';
import { expect, it } from 'vitest';
import { composeMessage } from './compose-message.ts';

// Composed here, taken apart by parsers we did not write: what went in must come out of each.

/** What a message says, in a form all parsers can be brought to. */
interface Content {
  readonly subject: string;
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly replyTo: readonly string[];
  readonly messageId: string;
  readonly mark: string;
  readonly text: string;
  readonly html: string;
  /** Name, content id and bytes in hexadecimal. */
  readonly files: readonly (readonly [string, string, string])[];
}

const unicode = (maxLength: number) =>
  fc.string({ unit: 'binary', maxLength }).filter((text) => text.isWellFormed());
/** What a header can hold. Parsers trim the ends and fold runs of white space, so neither is made. */
const headerText = (maxLength: number) =>
  fc
    .oneof(unicode(maxLength), fc.string({ maxLength }), fc.string({ unit: 'grapheme', maxLength }))
    .map((text) => text.replace(/[\p{C}\p{Z}\s]+/gu, ' ').trim());
const name = headerText(40).filter((text) => text !== '');
const body = fc.oneof(
  unicode(300),
  fc.string({ unit: fc.constantFrom('a', ' ', '\t', '.', '=', '\n', 'ü', '–', '\r\n'), maxLength: 300 }),
);
const filename = name.filter((text) => !/[/\\]/.test(text)).map((text) => `${text}.bin`);
const mailboxes = (minLength: number) =>
  fc.array(fc.record({ name, number: fc.nat(999) }), { minLength, maxLength: 4 });

const message = fc.record({
  subject: headerText(120),
  mark: headerText(100),
  from: mailboxes(1),
  to: mailboxes(1),
  cc: mailboxes(0),
  replyTo: mailboxes(0),
  text: body,
  html: fc.option(body, { nil: undefined }),
  files: fc.array(fc.record({ filename, inline: fc.boolean(), content: fc.uint8Array({ maxLength: 300 }) }), {
    maxLength: 3,
  }),
});
type Generated = typeof message extends fc.Arbitrary<infer Value> ? Value : never;

const address = ({ name: one, number }: { name: string; number: number }) => ({
  name: one,
  address: `user${number}@example.com`,
});
const shown = ({ name: one, address: at }: { name?: string | undefined; address?: string | undefined }) =>
  `${one}|${at}`;
/** The body's own end is the transport's business; line ends are all the same to a reader. */
const lines = (text: string | null | undefined): string =>
  (text ?? '').replace(/\r\n|\r/g, '\n').replace(/\n+$/, '');
const hex = (content: Uint8Array | ArrayBuffer): string => Buffer.from(content as Uint8Array).toString('hex');

function toInput(one: Generated): EmailMessageInput {
  return {
    from: address(one.from[0] as { name: string; number: number }),
    to: one.to.map(address),
    cc: one.cc.map(address),
    replyTo: one.replyTo.map(address),
    subject: one.subject,
    headers: { 'X-Mark': one.mark },
    text: one.text,
    html: one.html,
    attachments: one.files.map((file, index) => ({
      kind: 'bytes',
      filename: file.filename,
      content: file.content,
      contentType: 'application/x-thing',
      ...(file.inline && { contentId: `id${index}@x` }),
    })),
  };
}

function expected(one: Generated, messageId: string): Content {
  const inOrder = one.files.map((file, index) => ({ ...file, id: file.inline ? `<id${index}@x>` : '' }));
  // Inline parts stand with the HTML, before the attachments.
  const inline = one.html === undefined ? [] : inOrder.filter((file) => file.inline);
  return {
    subject: one.subject,
    from: one.from.slice(0, 1).map(address).map(shown),
    to: one.to.map(address).map(shown),
    cc: one.cc.map(address).map(shown),
    replyTo: one.replyTo.map(address).map(shown),
    messageId,
    mark: one.mark,
    text: lines(one.text),
    html: lines(one.html),
    files: [...inline, ...inOrder.filter((file) => !inline.includes(file))].map((file) => [
      file.filename,
      file.id,
      hex(file.content),
    ]),
  };
}

async function withMailparser(raw: Buffer): Promise<Content> {
  const mail = await parseMail(raw);
  return {
    subject: mail.subject,
    from: mail.from.map(shown),
    to: mail.to.map(shown),
    cc: mail.cc.map(shown),
    replyTo: mail.replyTo.map(shown),
    messageId: mail.messageId,
    mark: '',
    text: lines(mail.text),
    html: lines(mail.html),
    files: mail.attachments.map((file) => [
      file.filename ?? '',
      file.contentId === undefined ? '' : `<${file.contentId}>`,
      hex(file.content),
    ]),
  };
}

async function withPostalMime(raw: Buffer): Promise<Content> {
  const mail = await PostalMime.parse(raw);
  return {
    subject: mail.subject ?? '',
    from: [mail.from ?? {}].map(shown),
    to: (mail.to ?? []).map(shown),
    cc: (mail.cc ?? []).map(shown),
    replyTo: (mail.replyTo ?? []).map(shown),
    messageId: mail.messageId ?? '',
    mark: '',
    text: lines(mail.text),
    html: lines(mail.html),
    files: mail.attachments.map((file) => [
      file.filename ?? '',
      file.contentId ?? '',
      typeof file.content === 'string' ? file.content : hex(file.content),
    ]),
  };
}

/** Python's own package; takes one message a line in base64, and gives one JSON document a line back. */
const pythonProgram = `
import sys, json, base64, email, email.policy
from email.header import decode_header, make_header
from email.utils import getaddresses
# Its newer address parser fails on some names, so addresses go through the older one.
def addresses(m, h):
    return [f"{make_header(decode_header(n))}|{a}" for n, a in getaddresses(m.get_all(h, []))]
for line in sys.stdin:
    old = email.message_from_bytes(base64.b64decode(line))
    m = email.message_from_bytes(base64.b64decode(line), policy=email.policy.default)
    text, html, files = "", "", []
    for p in m.walk():
        if p.is_multipart(): continue
        d = p.get_content_disposition()
        if d is None and p.get_content_type() == "text/plain": text = p.get_payload(decode=True).decode("utf-8")
        elif d is None and p.get_content_type() == "text/html": html = p.get_payload(decode=True).decode("utf-8")
        else: files.append([p.get_filename(), p["Content-ID"] or "", p.get_payload(decode=True).hex()])
    print(json.dumps(dict(subject=m["Subject"], mark=m["X-Mark"], messageId=m["Message-ID"], text=text, html=html,
        files=files, **{"from": addresses(old, "From")}, to=addresses(old, "To"), cc=addresses(old, "Cc"),
        replyTo=addresses(old, "Reply-To"))))
`;
const hasPython = spawnSync('python3', ['--version']).status === 0;

const cases = fc.sample(message, { numRuns: process.env.FLOWPOST_SOAK ? 10_000 : 600, seed: 20_261_125 });
const composed = Promise.all(
  cases.map(async (one) => {
    const { body: raw, messageId } = await composeMessage(toInput(one));
    if (!Buffer.isBuffer(raw)) throw new Error('everything was in memory');
    return { one, raw, content: expected(one, messageId) };
  }),
);

it('every message is clean: 7 bit, CRLF, no line over 998 characters', async () => {
  for (const { raw } of await composed) {
    const text = raw.toString('latin1');
    expect(text).not.toMatch(/\r(?!\n)|(?<!\r)\n|\0|[\x80-\xff]/);
    expect(Math.max(...text.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998);
  }
});

it.each([
  ['mailparser', withMailparser],
  ['postal-mime', withPostalMime],
])('%s gives back what was put in', async (_, parse) => {
  for (const { raw, content } of await composed) expect(await parse(raw)).toEqual({ ...content, mark: '' });
});

it.skipIf(!hasPython)(
  'the email package of Python (skipped where there is no python3) gives back what was put in',
  async () => {
    const all = await composed;
    const input = all.map(({ raw }) => `${raw.toString('base64')}\n`).join('');
    const output = execFileSync('python3', ['-c', pythonProgram], { input, maxBuffer: 1 << 28 });
    const found = output
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Content);
    expect(found).toHaveLength(all.length);
    found.forEach((mail, index) => {
      expect({ ...mail, text: lines(mail.text), html: lines(mail.html) }).toEqual(all[index]?.content);
    });
  },
);
