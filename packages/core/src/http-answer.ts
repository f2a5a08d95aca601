/** Whether an HTTP status means that the same request may go well later (RFC 9110 section 15, RFC 6585 section 4). */
export const isLaterStatus = (status: number): boolean =>
  status === 408 || status === 425 || status === 429 || status >= 500;

/**
 * How long Retry-After asks to wait (RFC 9110 section 10.2.3), which is seconds or a date.
 *
 * @param now in Unix milliseconds.
 * @returns milliseconds; undefined without the header, or for what is neither.
 */
export function retryAfterMs(header: string | null | undefined, now: number): number | undefined {
  if (typeof header !== 'string') return undefined;
  // Some servers write parts of a second. What begins with anything but a day is no date, though `Date` makes one of nearly all.
  if (/^\d+(?:\.\d+)?$/.test(header)) return Math.ceil(Number(header) * 1_000);
  const ms = /^[a-z]/i.test(header) ? Date.parse(header) - now : Number.NaN;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
