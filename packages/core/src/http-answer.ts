/** Whether an HTTP status means that the same request may go well later (RFC 9110 section 15, RFC 6585 section 4). */
export const isLaterStatus = (status: number): boolean =>
  status === 408 || status === 425 || status === 429 || status >= 500;

/** A date (RFC 9110 section 5.6.7), of which one form is without the zone that all have; in Unix milliseconds, or NaN. */
const dateOf = (text: string): number => Date.parse(/ \d{4}$/.test(text) ? `${text} GMT` : text);

/**
 * How long Retry-After asks to wait (RFC 9110 section 10.2.3), which is seconds or a date. Of a date it is how much later that is than
 * the date of the answer itself, where it has one: clocks differ.
 *
 * @param now in Unix milliseconds.
 * @returns milliseconds; undefined without the header, or for what is neither.
 */
export function retryAfterMs(headers: Pick<Headers, 'get'>, now: number): number | undefined {
  const header = headers.get('retry-after') ?? '';
  // Some servers write parts of a second. What begins with anything but a day is no date, though `Date` makes one of nearly all.
  const isSeconds = /^\d+(?:\.\d+)?$/.test(header);
  const answeredAt = dateOf(headers.get('date') ?? '');
  const since = Number.isFinite(answeredAt) ? answeredAt : now;
  const ms = isSeconds
    ? Math.ceil(Number(header) * 1_000)
    : /^[a-z]/i.test(header)
      ? dateOf(header) - since
      : Number.NaN;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
