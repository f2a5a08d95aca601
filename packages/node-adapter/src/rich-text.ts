const entities: Readonly<Record<string, string>> = {
  gt: '>',
  lt: '<',
  amp: '&',
  quot: '"',
  apos: "'",
  '#39': "'",
  nbsp: ' ',
};

/** An expression or a tag of Liquid. */
const expression = /\{\{.*?\}\}|\{%.*?%\}/gs;
/** Text in quotes, which is as its author wrote it, quotes that are entities, and entities in between. */
const entity = /"[^"]*"|'[^']*'|(&(?:quot|#39|apos);)(.*?)\1|&(gt|lt|amp|nbsp);/gs;

/**
 * HTML whose expressions are as their author meant them: editors of rich text write `{% if a > b %}` as `{% if a &gt; b %}`.
 * What stands in quotes stays, since there `&lt;` may be what is wanted.
 */
export function withPlainExpressions(html: string): string {
  if (!html.includes('&')) return html;
  return html.replace(expression, (one) =>
    one.replace(entity, (found, quote?: string, text?: string, name?: string) => {
      if (quote !== undefined) return `${entities[quote.slice(1, -1)]}${text}${entities[quote.slice(1, -1)]}`;
      return name === undefined ? found : (entities[name] ?? found);
    }),
  );
}
