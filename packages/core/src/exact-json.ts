type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

/** Parses JSON; a number that is not the one that is written, as `isExact` sees it, becomes the text that is. */
function parseNumbers(text: string, isExact: (value: number, source: string) => boolean): unknown {
  const exact: Reviver = (_key, value, { source = '' }) =>
    typeof value === 'number' && !isExact(value, source) ? source : value;
  return JSON.parse(text, exact as Parameters<typeof JSON.parse>[1]);
}

/** A fraction is as near as it gets; a whole number is the same or another one. */
const isSame = (value: number, source: string): boolean =>
  Number.isSafeInteger(value) ||
  (Number.isFinite(value) && (!Number.isInteger(value) || BigInt(value).toString() === source));

/**
 * Parses JSON of data, with the numbers JavaScript has none for that is the same as text: so they are what they were.
 *
 * @param parse for a text that has no such numbers.
 * @throws SyntaxError for what is no JSON.
 */
export const parseExactly = (text: string, parse: (text: string) => unknown = JSON.parse): unknown =>
  /\d{16}|\d[eE]\+?\d{2}/.test(text) ? parseNumbers(text, isSame) : parse(text);

/** Whether a number looks as somebody wrote it: 0042 and 1.50 do not. */
export const isAsWritten = (value: number, source: string): boolean => String(value) === source;

/** JSON of settings, in which a number that would look otherwise than it is written is a text. */
export const parseAsWritten = (text: string): unknown => parseNumbers(text, isAsWritten);
