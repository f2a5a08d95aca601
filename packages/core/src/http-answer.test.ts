import { expect, it } from 'vitest';
import { retryAfterMs } from './http-answer.ts';

const now = Date.parse('2026-01-01T00:00:00Z');

it.each([
  ['120', 120_000],
  ['1.5', 1_500],
  ['0', 0],
  ['Thu, 01 Jan 2026 00:00:10 GMT', 10_000],
  ['Thursday, 01-Jan-26 00:00:10 GMT', 10_000],
  ['Thu Jan  1 00:00:10 2026', 10_000],
  ['Wed, 31 Dec 2025 19:00:10 -0500', 10_000],
  ['9'.repeat(400), undefined],
  ['Wed, 31 Dec 2025 23:59:00 GMT', 0],
  ['-5', undefined],
  ['1,5', undefined],
  ['soon', undefined],
  ['', undefined],
  [null, undefined],
])('Retry-After %o is %o ms', (header, ms) => {
  expect(retryAfterMs(new Headers(header === null ? {} : { 'retry-after': header }), now)).toBe(ms);
});

it('Retry-After as a date is later than the answer by the clock of its server', () => {
  const headers = new Headers({
    date: 'Thu, 01 Jan 2026 00:30:00 GMT',
    'retry-after': 'Thu, 01 Jan 2026 00:30:02 GMT',
  });
  expect(retryAfterMs(headers, now)).toBe(2_000);
});
