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

/** JSON, known to be such, with what stands outside of texts changed. */
function outsideOfTexts(json: string, change: (between: string) => string): string {
  let result = '';
  for (let at = 0; at < json.length; ) {
    const begin = json.indexOf('"', at);
    const end = begin < 0 ? json.length : endOfText(json, begin);
    result += change(json.slice(at, begin < 0 ? end : begin));
    if (begin >= 0) result += json.slice(begin, end);
    at = end;
  }
  return result;
}

/** A fraction is as near as it gets; a whole number is the same or another one. */
const isSame: IsExact = (value, source) =>
  Number.isSafeInteger(value) ||
  (Number.isFinite(value) && (!Number.isInteger(value) || BigInt(value).toString() === source));

/** What almost every number has that JavaScript has none for: sixteen digits in a row, or a large exponent. */
const large = /\d{16}|\d[eE]\+?\d{2}/;
const ofNumber = new Set('0123456789.eE+-');

/** Large numbers that are not the same become texts. Others are many, and are not looked at one by one. */
function largeAsText(between: string): string {
  const next = new RegExp(large, 'g');
  let result = '';
  let at = 0;
  for (let found = next.exec(between); found; found = next.exec(between)) {
    let begin = found.index;
    while (ofNumber.has(between.charAt(begin - 1))) begin--;
    let end = next.lastIndex;
    while (ofNumber.has(between.charAt(end))) end++;
    const source = between.slice(begin, end);
    result += between.slice(at, begin) + (isSame(Number(source), source) ? source : `"${source}"`);
    at = end;
    next.lastIndex = end;
  }
  return result + between.slice(at);
}

/**
 * Parses JSON of data, with the numbers JavaScript has none for that is the same as text: so they are what they were.
 *
 * @param parse what else is to be had of the JSON.
 * @throws SyntaxError for what is no JSON.
 */
export function parseExactly(json: string, parse: (json: string) => unknown = JSON.parse): unknown {
  const value = parse(json);
  if (!large.test(json)) return value;
  const changed = outsideOfTexts(json, largeAsText);
  return changed === json ? value : JSON.parse(changed);
}

/** Whether a number looks as somebody wrote it: 0042 and 1.50 do not. */
export const isAsWritten: IsExact = (value, source) => String(value) === source;

/** JSON of settings, in which a number that would look otherwise than it is written is a text. @throws SyntaxError for what is no JSON. */
export function parseAsWritten(json: string): unknown {
  const value: unknown = JSON.parse(json);
  const quote = (source: string): string => (isAsWritten(Number(source), source) ? source : `"${source}"`);
  const changed = outsideOfTexts(json, (between) => between.replace(/-?\d[\d.eE+-]*/g, quote));
  return changed === json ? value : JSON.parse(changed);
}
