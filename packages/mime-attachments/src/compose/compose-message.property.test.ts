import type { EmailMessageInput } from '@flowpost/core';
import { parseMail } from '@flowpost/testing';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { composeMessage } from './compose-message.ts';

const unicode = (maxLength: number) =>
  fc.string({ unit: 'binary', maxLength }).filter((text) => text.isWellFormed());
/** What a header can hold: no controls; parsers trim the ends and fold runs of white space, so neither is made. */
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

const lines = (text: string | undefined): string => (text ?? '').replace(/\r\n|\r/g, '\n').replace(/\n$/, '');

it('compose, then parse with mailparser, gives back subject, names, bodies and attachment bytes', async () => {
  await fc.assert(
    fc.asyncProperty(
      headerText(120),
      fc.array(name, { minLength: 1, maxLength: 4 }),
      body,
      fc.option(body, { nil: undefined }),
      fc.array(fc.record({ filename, content: fc.uint8Array({ maxLength: 200 }) }), { maxLength: 3 }),
      async (subject, names, text, html, files) => {
        const message: EmailMessageInput = {
          from: { name: names[0], address: 'from@example.com' },
          to: names.map((one, index) => ({ name: one, address: `to${index}@example.com` })),
          subject,
          text,
          html,
          attachments: files.map((file) => ({ kind: 'bytes', ...file })),
        };
        const { body: raw } = await composeMessage(message);
        if (!Buffer.isBuffer(raw)) throw new Error('everything was in memory');
        expect(raw.toString('latin1')).not.toMatch(/\r(?!\n)|(?<!\r)\n|\0|[\x80-\xff]/);
        const mail = await parseMail(raw);
        expect(mail.subject).toBe(subject);
        expect(mail.to.map((to) => to.name)).toEqual(names);
        expect(mail.from.map((from) => from.name)).toEqual([names[0]]);
        expect(lines(mail.text)).toBe(lines(text));
        if (html !== undefined) expect(lines(mail.html)).toBe(lines(html));
        expect(mail.attachments.map((one) => [one.filename, [...one.content]])).toEqual(
          files.map((one) => [one.filename, [...one.content]]),
        );
      },
    ),
  );
});
