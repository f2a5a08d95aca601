import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  base64Size,
  encodeBase64,
  encodeBase64Stream,
  encodeQuotedPrintable,
  encodeText,
} from './transfer-encoding.ts';

function decodeQuotedPrintable(text: string): Buffer {
  const joined = text.replace(/=\r\n/g, '');
  return Buffer.from(
    joined.replace(/=([0-9A-F]{2})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 16))),
    'latin1',
  );
}

describe('quoted-printable', () => {
  it('decodes to the same bytes, in lines of at most 76 characters without trailing white space (property)', () => {
    const text = fc.string({
      unit: fc.constantFrom('a', '=', ' ', '\t', 'ü', '\r\n', '.', '€'),
      maxLength: 400,
    });
    fc.assert(
      fc.property(text, (input) => {
        const bytes = Buffer.from(input);
        const encoded = encodeQuotedPrintable(bytes).toString('latin1');
        expect(decodeQuotedPrintable(encoded).equals(bytes)).toBe(true);
        for (const line of encoded.split('\r\n')) {
          expect(line.length).toBeLessThanOrEqual(76);
          expect(line).not.toMatch(/[ \t]$/);
        }
      }),
    );
  });
});

describe('base64', () => {
  it('has lines of 76 characters and the announced size, streamed in any chunks (property)', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 8 }), async (chunks) => {
        const whole = Buffer.concat(chunks);
        const encoded = encodeBase64(whole);
        expect(encoded.length).toBe(base64Size(whole.length));
        expect(Buffer.from(encoded.toString('latin1'), 'base64').equals(whole)).toBe(true);
        for (const line of encoded.toString('latin1').split('\r\n').slice(0, -1))
          expect(line.length).toBe(76);
        const streamed = await Array.fromAsync(
          encodeBase64Stream(
            (async function* () {
              yield* chunks;
            })(),
          ),
        );
        expect(Buffer.concat(streamed).equals(encoded)).toBe(true);
      }),
    );
  });
});

describe('encodeText', () => {
  it('chooses 7bit up to 998 characters a line', () => {
    expect(encodeText(`${'x'.repeat(998)}\n${'y'.repeat(998)}`).encoding).toBe('7bit');
    expect(encodeText(`${'x'.repeat(999)}\ny`).encoding).toBe('quoted-printable');
  });

  it('turns every kind of line end into CRLF', () => {
    expect(encodeText('a\rb\nc\r\nd\n\re').content).toBe('a\r\nb\r\nc\r\nd\r\n\r\ne');
  });
});
