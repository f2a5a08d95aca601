import { expect, it } from 'vitest';
import { retryAfterMs } from './http-answer.ts';

const now = Date.parse('2026-01-01T00:00:00Z');

it.each([
  ['120', 120_000],
  ['1.5', 1_500],
  ['0', 0],
  ['Thu, 01 Jan 2026 00:00:10 GMT', 10_000],
  ['Thursday, 01-Jan-26 00:00:10 GMT', 10_000],
  ['Thu Jan  1 00:00:10 2026 GMT', 10_000],
  ['Wed, 31 Dec 2025 23:59:00 GMT', 0],
  ['-5', undefined],
  ['1,5', undefined],
  ['soon', undefined],
  ['', undefined],
  [null, undefined],
])('Retry-After %o is %o ms', (header, ms) => {
  expect(retryAfterMs(header, now)).toBe(ms);
});
