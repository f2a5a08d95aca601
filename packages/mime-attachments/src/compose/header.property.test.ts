import { type EmailMessageInput, isMailError, parseAddresses } from '@flowpost/core';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { addressHeader } from './address-header.ts';
import { composeMessage } from './compose-message.ts';
import { dispositionHeader, legacyParameter, textHeader, tokenHeader } from './header.ts';

// Whatever a value holds, it is one header line or it is refused: never a second line, never a bare CR, LF or NUL.

const runs = process.env.FLOWPOST_SOAK ? 1_000_000 : 100_000;
const hostile = fc.constantFrom(
  ...[
    '\r',
    '\n',
    '\r\n',
    '\0',
    '\r\nBcc: e@x.org',
    '\u2028',
    '\u0085',
    '\v',
    '\f',
    '\x7f',
    '\ud800',
    '=?UTF-8?Q?=0D=0A?=',
  ],
  ...['"', '\\', '<', '>', ',', ';', ':', '(', ')', '@', ' ', '\t', 'a', 'ü', '😀', 'b@x.org', '%0d%0a', '='],
);
const value = fc.oneof(
  fc.string({ unit: hostile, maxLength: 30 }),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ maxLength: 120 }),
);

/** One header: a name, and lines that go on with white space. */
const oneHeader = /^[!-9;-~]+: [^\r\n\0]*(?:\r\n[ \t][^\r\n\0]*)*\r\n$/;

function expectOneHeader(write: () => string): void {
  let written: string;
  try {
    written = write();
  } catch (error) {
    expect(isMailError(error)).toBe(true);
    return;
  }
  if (!oneHeader.test(written)) expect(written).toMatch(oneHeader);
  if (written.split('\r\n').some((line) => line.length > 998)) expect(written).toBe('within the line length');
}

it(`${runs} values in text, tokens, parameters and file names`, () => {
  fc.assert(
    fc.property(value, (text) => {
      expectOneHeader(() => textHeader('Subject', text));
      expectOneHeader(() => tokenHeader('X-Token', [text, text]));
      expectOneHeader(() => dispositionHeader('attachment', text));
      expectOneHeader(() => tokenHeader('Content-Type', ['a/b;', ...legacyParameter('name', text)]));
    }),
    { numRuns: runs },
  );
});

it(`${runs} addresses, alone and with names`, () => {
  fc.assert(
    fc.property(value, value, (address, name) => {
      expectOneHeader(() => addressHeader('To', parseAddresses(address)));
      expectOneHeader(() => addressHeader('To', parseAddresses([{ name, address: 'b@x.org' }])));
      expectOneHeader(() => addressHeader('To', parseAddresses(`${name} <b@x.org>, c@x.org`)));
    }),
    { numRuns: runs },
  );
});

it('whole messages: the headers are those that were asked for, in each field a text can stand', async () => {
  const names = (raw: string) =>
    [...raw.slice(0, raw.indexOf('\r\n\r\n')).matchAll(/^([!-9;-~]+):/gm)].map(([, name]) => name);
  const message = (text: string): EmailMessageInput => ({
    from: 'a@x.org',
    to: 'b@x.org',
    text: 'x',
    ...{ subject: text },
  });
  const plain = await composeMessage(message('x'));
  await fc.assert(
    fc.asyncProperty(value, fc.nat(6), async (text, field) => {
      const changes: Partial<EmailMessageInput>[] = [
        { subject: text },
        { from: { name: text, address: 'a@x.org' } },
        { text },
        { to: text },
        { headers: { Subject2: text } },
        { messageId: `<${text}@x.org>` },
        { references: [text] },
      ];
      const change = changes[field] ?? {};
      const composed = await composeMessage({ ...message('x'), ...change }).catch((error) => error);
      if (isMailError(composed)) return;
      const raw = String(composed.body);
      expect(raw).not.toMatch(/\r(?!\n)|(?<!\r)\n|\0/);
      const extra = change.headers ? ['Subject2'] : change.references ? ['References'] : [];
      expect(names(raw).toSorted()).toEqual([...names(String(plain.body)), ...extra].toSorted());
    }),
  );
});

it('a file name that looks like an encoded word is shown as none', () => {
  expect(dispositionHeader('attachment', '=?utf-8?q?evil.exe?=')).not.toContain('=?');
});
