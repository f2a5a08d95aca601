import { expect, it, vi } from 'vitest';
import { parseAsWritten, parseExactly } from './exact-json.ts';

it.each([
  ['12345678901234567890', '12345678901234567890'],
  ['-9007199254740993', '-9007199254740993'],
  ['[123456789012345.12345678901234, -1.5e+22, 1E99]', [123456789012345.12, '-1.5e+22', '1E99']],
  ['[9007199254740992, 1e400, 1.5, 0.1234567890123456789]', [2 ** 53, '1e400', 1.5, 0.12345678901234568]],
  ['{"12345678901234567890":[{"a":1e99}]}', { '12345678901234567890': [{ a: '1e99' }] }],
  ['"12345678901234567890"', '12345678901234567890'],
  [
    String.raw`["a\\", 12345678901234567890, "\" 12345678901234567890", "\\\""]`,
    ['a\\', '12345678901234567890', '" 12345678901234567890', '\\"'],
  ],
])('%s', (json, value) => expect(parseExactly(json)).toEqual(value));

it('settings keep numbers as they are written', () => {
  expect(parseAsWritten('[1.50, 1e3, 7, -0, "1.50"]')).toEqual(['1.50', '1e3', 7, '-0', '1.50']);
});

it('what is no JSON is refused whatever is in it', () => {
  for (const json of ['{"a":12345678901234567890', '[1e99,]', '"12345678901234567890', '1234567890123456.'])
    expect(() => parseExactly(json)).toThrow(SyntaxError);
});

it('texts are not looked into, and numbers that are what they are not touched', () => {
  const looks = vi.spyOn(globalThis, 'BigInt');
  const json = JSON.stringify(
    Array.from({ length: 1_000 }, (_, n) => [n, n / 3, `a3e10 ${n}12345678901234567`]),
  );
  expect(parseExactly(`[${json}, 12345678901234567890]`)).toEqual([JSON.parse(json), '12345678901234567890']);
  expect(looks).toHaveBeenCalledTimes(1);
  looks.mockRestore();
});
