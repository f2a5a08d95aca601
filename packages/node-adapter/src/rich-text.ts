const entities: Readonly<Record<string, string>> = {
  gt: '>',
  lt: '<',
  amp: '&',
  quot: '"',
  apos: "'",
  '#39': "'",
  nbsp: ' ',
};

/** Text in quotes, which is as its author wrote it, quotes that are entities, and entities in between. */
const entity = /"[^"]*"|'[^']*'|(&(?:quot|#39|apos);)(.*?)\1|&(gt|lt|amp|nbsp);/gs;

const plain = (expression: string): string =>
  expression.replace(entity, (found, quote?: string, text?: string, name?: string) => {
    if (quote !== undefined) return `${entities[quote.slice(1, -1)]}${text}${entities[quote.slice(1, -1)]}`;
    return name === undefined ? found : (entities[name] ?? found);
  });

/**
 * HTML whose expressions are as their author meant them: editors of rich text write `{% if a > b %}` as `{% if a &gt; b %}`.
 * What stands in quotes stays, since there `&lt;` may be what is wanted, and so does what is between `raw` and `endraw`.
 */
export function withPlainExpressions(html: string): string {
  if (!html.includes('&')) return html;
  const begin = /\{[{%]/g;
  /** What does not end any more is not looked for again. */
  const endless = new Set<string>();
  let result = '';
  let at = 0;
  for (let found = begin.exec(html); found && endless.size < 2; found = begin.exec(html)) {
    const end = found[0] === '{{' ? '}}' : '%}';
    const to = endless.has(end) ? -1 : html.indexOf(end, found.index + 2);
    if (to < 0) {
      endless.add(end);
      continue;
    }
    const expression = html.slice(found.index, to + 2);
    result += html.slice(at, found.index) + plain(expression);
    at = to + 2;
    if (/^\{%-?\s*raw\s*-?%\}$/.test(expression)) {
      const raw = /\{%-?\s*endraw\s*-?%\}/g;
      raw.lastIndex = at;
      if (!raw.test(html)) break;
      result += html.slice(at, raw.lastIndex);
      at = raw.lastIndex;
    }
    begin.lastIndex = at;
  }
  return result + html.slice(at);
}
