import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ReplyParser, ReplyTooLong } from './reply-parser.ts';

const text = fc.string({ unit: fc.constantFrom('a', ' ', '5', '-', '.', 'é'), maxLength: 20 });
const reply = fc
  .tuple(fc.integer({ min: 200, max: 599 }), fc.array(text, { minLength: 1, maxLength: 4 }))
  .map(([code, lines]) => ({
    code,
    lines: lines.map((line, index) => `${code}${index < lines.length - 1 ? '-' : ' '}${line}`),
  }));

it('replies are the same however their bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(reply, { maxLength: 5 }),
      fc.array(fc.nat(30), { maxLength: 30 }),
      (replies, cuts) => {
        const bytes = Buffer.from(
          replies.flatMap(({ lines }) => lines.map((line) => `${line}\r\n`)).join(''),
        );
        const parser = new ReplyParser();
        const found: { code: number; text: string }[] = [];
        let at = 0;
        for (const length of [...cuts, bytes.length]) {
          found.push(...parser.feed(bytes.subarray(at, at + length)));
          at += length;
        }
        expect(parser.hasPartial).toBe(false);
        expect(found.map(({ code, text: all }) => ({ code, lines: all.split('\n') }))).toEqual(replies);
      },
    ),
  );
});

it.each([
  ['hello\r\n', 0],
  ['\r\n', 0],
  ['99 x\r\n', 0],
  ['250_x\r\n', 0],
  ['250-a\r\n251 b\r\n', 0],
  ['250\r\n', 250],
  ['250 x\n', 250],
])('%j has the code %i', (line, code) => {
  expect(new ReplyParser().feed(Buffer.from(line)).map((one) => one.code)).toEqual([code]);
});

it('does not collect without end', () => {
  expect(() => new ReplyParser().feed(Buffer.alloc(10_000, 'x'))).toThrow(ReplyTooLong);
  expect(() => new ReplyParser().feed(Buffer.from('250-x\r\n'.repeat(3_000)))).toThrow(ReplyTooLong);
  // Each reply for itself.
  expect(new ReplyParser().feed(Buffer.from('250 x\r\n'.repeat(3_000)))).toHaveLength(3_000);
});
