import type { FormatCallback, HtmlToTextOptions } from 'html-to-text';
import { withoutTags } from './without-tags.ts';

/** More than this is parsed in no reasonable time when it is nested wrongly on purpose. */
const mostTags = 20_000;

/** Pictures say nothing in text but by their alternative text. */
const imageText: FormatCallback = (element, _walk, builder) => {
  const { alt } = element.attribs ?? {};
  if (alt) builder.addInline(alt);
};

/** A cell, whatever number of rows and columns it says it spans: hostile numbers would fill the memory. */
const cellText: FormatCallback = (element, walk, builder) => {
  walk(element.children, builder);
  builder.addInline(' ');
};

/** A numbered list that begins with one, for the same reason. */
const listText: FormatCallback = (element, walk, builder, options) => {
  builder.openList({ interRowLineBreaks: 1, leadingLineBreaks: 2, maxPrefixLength: 5, prefixAlign: 'left' });
  let number = 0;
  for (const child of element.children) {
    const isItem = child.name === 'li';
    // Editors put other things there too, such as a list within the list; white space is nothing.
    if (!isItem && child.type === 'text' && (child.data ?? '').trim() === '') continue;
    builder.openListItem({ prefix: isItem ? ` ${++number}. ` : '    ' });
    walk(isItem ? child.children : [child], builder);
    builder.closeListItem();
  }
  builder.closeList({ trailingLineBreaks: options.trailingLineBreaks ?? 2 });
};

const oneLine = { leadingLineBreaks: 1, trailingLineBreaks: 1 };
/** In place of what is nested too deeply; a character that no text has. */
const tooDeep = '\ufdd0';

const options: HtmlToTextOptions = {
  wordwrap: 78,
  // All of it: what stands around a body is shown by readers of HTML too.
  baseElements: { selectors: [], returnDomByDefault: true },
  formatters: { imageText, cellText, listText },
  selectors: [
    // A link whose text is its address is shown once, and one to a place in the mail itself leads nowhere in text.
    { selector: 'a', options: { hideLinkHrefIfSameAsText: true, noAnchorUrl: true } },
    { selector: 'img', format: 'imageText' },
    { selector: 'ol', format: 'listText' },
    { selector: 'table', format: 'block' },
    { selector: 'tr', format: 'block' },
    { selector: 'td', format: 'cellText' },
    { selector: 'th', format: 'cellText' },
    // Not all of `head`: its end may be left out, and then it holds everything.
    { selector: 'title', format: 'skip' },
    { selector: 'template', format: 'skip' },
    ...['dt', 'dd'].map((selector) => ({ selector, format: 'block' })),
    ...'center address summary details figure figcaption fieldset legend caption hgroup search dialog'
      .split(' ')
      .map((selector) => ({ selector, format: 'block', options: oneLine })),
    ...['menu', 'dir'].map((selector) => ({ selector, format: 'unorderedList' })),
    ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6'].map((selector) => ({ selector, options: { uppercase: false } })),
  ],
  // Nothing long is cut off; what is nested more deeply would exhaust the stack.
  limits: { maxInputLength: Number.MAX_SAFE_INTEGER, maxDepth: 200, ellipsis: tooDeep },
};

let convert: Promise<(html: string) => string> | undefined;

function countTags(html: string): number {
  let count = 0;
  for (let at = html.indexOf('<'); at >= 0 && count <= mostTags; at = html.indexOf('<', at + 1)) count++;
  return count;
}

/** The plain text of an HTML body, for readers that show no HTML. */
export async function plainTextOf(html: string): Promise<string> {
  if (countTags(html) > mostTags) return withoutTags(html);
  // Loaded by who needs it: most messages bring their own text.
  convert ??= import('html-to-text').then(({ compile }) => compile(options));
  try {
    const text = (await convert)(html);
    return text.includes(tooDeep) ? withoutTags(html) : text;
  } catch {
    return withoutTags(html);
  }
}
