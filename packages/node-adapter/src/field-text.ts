/** How a value looks inside other text. */
export function asText(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(asText).join(', ');
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
};
/** The same in HTML. */
export const asHtml = (value: unknown): string =>
  asText(value).replace(/[&<>"']/g, (one) => escapes[one] ?? one);

/** A name before an address: one phrase (RFC 5322 section 3.2.5), whatever is in it. */
export const asPhrase = (value: unknown): string => `"${asText(value).replace(/["\\]/g, '\\$&')}"`;
/** The same where the quotes are there already. */
export const asQuoted = (value: unknown): string => asText(value).replace(/["\\]/g, '\\$&');
/** An address between angle brackets: one, or none at all. */
export function asOneAddress(value: unknown): string {
  const text = asText(value);
  if (/[\s,;<>"]/.test(text)) throw new Error('what stands in < > is not one address');
  return text;
}

/** Where a value stands in a list of addresses decides what it may be: a name must not bring recipients of its own. */
export function inAddresses(text: string): string {
  const spaces = /\s*/y;
  let done = '';
  let from = 0;
  for (;;) {
    const open = text.indexOf('{{', from);
    const close = open < 0 ? -1 : text.indexOf('}}', open);
    if (close < 0) return done + text.slice(from);
    const before = text.slice(from, open);
    spaces.lastIndex = close + 2;
    spaces.test(text);
    const after = spaces.lastIndex;
    const next = text[after];
    const filter =
      before.endsWith('"') && text[close + 2] === '"'
        ? 'quoted'
        : before.trimEnd().endsWith('<') && next === '>'
          ? 'address'
          : next === '<'
            ? 'phrase'
            : undefined;
    const expression = text.slice(open, close);
    // A hyphen takes away the space behind, and stays the last thing.
    const [inner, end] = expression.endsWith('-') ? [expression.slice(0, -1), ' -}}'] : [expression, ' }}'];
    const isAddress = filter === 'address';
    done +=
      (isAddress ? before.trimEnd() : before) +
      (filter === undefined ? `${expression}}}` : `${inner} | flowpost_${filter}${end}`);
    from = isAddress ? after : close + 2;
  }
}
