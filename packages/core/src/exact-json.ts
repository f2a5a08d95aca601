/** Whether a number in JSON is what it should be. */
type IsExact = (value: number, source: string) => boolean;

/** The end of a text in JSON, given where it begins: behind its last quote. */
function endOfText(json: string, begin: number): number {
  for (let at = json.indexOf('"', begin + 1); ; at = json.indexOf('"', at + 1)) {
    let before = at;
    while (json[before - 1] === '\\') before--;
    // An even number of backslashes are so many characters, and the quote is one.
    if ((at - before) % 2 === 0) return at + 1;
  }
}

/**
 * JSON, known to be such, in which numbers that are not exact are texts.
 *
 * @param numbers finds those that may not be, with what stands outside of texts.
 */
function withNumbersAsText(json: string, numbers: RegExp, isExact: IsExact): string {
  const quote = (source: string): string => (isExact(Number(source), source) ? source : `"${source}"`);
  let result = '';
  for (let at = 0; at < json.length; ) {
    const begin = json.indexOf('"', at);
    const end = begin < 0 ? json.length : endOfText(json, begin);
    const between = json.slice(at, begin < 0 ? end : begin);
    const changed = between.replace(numbers, quote);
    result += begin < 0 ? changed : changed + json.slice(begin, end);
    at = end;
  }
  return result;
}

/** A fraction is as near as it gets; a whole number is the same or another one. */
const isSame: IsExact = (value, source) =>
  Number.isSafeInteger(value) ||
  (Number.isFinite(value) && (!Number.isInteger(value) || BigInt(value).toString() === source));

/** No other number is one that JavaScript has none for: it has sixteen digits in a row, or a large exponent. */
const mayDiffer = /\d{16}|\d[eE]\+?\d{2}/;
const large = /-?(?=[\d.]*(?:\d{16}|\d[eE]\+?\d{2}))\d[\d.eE+-]*/g;

/**
 * Parses JSON of data, with the numbers JavaScript has none for that is the same as text: so they are what they were.
 *
 * @param parse what else is to be had of the JSON.
 * @throws SyntaxError for what is no JSON.
 */
export function parseExactly(json: string, parse: (json: string) => unknown = JSON.parse): unknown {
  const value = parse(json);
  if (!mayDiffer.test(json)) return value;
  const changed = withNumbersAsText(json, large, isSame);
  return changed === json ? value : JSON.parse(changed);
}

/** Whether a number looks as somebody wrote it: 0042 and 1.50 do not. */
export const isAsWritten: IsExact = (value, source) => String(value) === source;

/** JSON of settings, in which a number that would look otherwise than it is written is a text. @throws SyntaxError for what is no JSON. */
export function parseAsWritten(json: string): unknown {
  const value: unknown = JSON.parse(json);
  const changed = withNumbersAsText(json, /-?\d[\d.eE+-]*/g, isAsWritten);
  return changed === json ? value : JSON.parse(changed);
}
