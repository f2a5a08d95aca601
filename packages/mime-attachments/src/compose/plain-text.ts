import type { FormatCallback, HtmlToTextOptions } from 'html-to-text';

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

/** Where what is not shown begins, and where each of it ends. */
const hidden = /<(?:!--|(style|script|title)(?=[\s>/]))/gi;
const ends: Readonly<Record<string, RegExp>> = {
  style: /<\/style(?=[\s/>])[^>]*>?/gi,
  script: /<\/script(?=[\s/>])[^>]*>?/gi,
  title: /<\/title(?=[\s/>])[^>]*>?/gi,
};
const endOfComment = /-->/g;

/** Takes out what is not shown, as it comes: a comment in a style is none, nor a style in a comment. One that does not end goes on to the end. */
function withoutHidden(html: string): string {
  let kept = '';
  let at = 0;
  for (const { index, 0: mark, 1: element = '' } of html.matchAll(hidden)) {
    if (index < at) continue;
    kept += html.slice(at, index);
    const end = ends[element.toLowerCase()] ?? endOfComment;
    end.lastIndex = index + mark.length;
    if (!end.test(html)) return kept;
    at = end.lastIndex;
  }
  return kept + html.slice(at);
}

/** Puts the address of each link behind its text. */
function withAddresses(html: string): string {
  let address = '';
  return html.replace(/<a\b((?:"[^"]*"|'[^']*'|[^'">])*)>?|<\/a\b[^>]*>?/gi, (tag, attributes?: string) => {
    if (attributes === undefined) {
      const shown = address;
      address = '';
      return shown;
    }
    const [, double, single, bare] =
      /\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/i.exec(attributes) ?? [];
    const href = (double ?? single ?? bare ?? '').trim();
    address = href === '' || href.startsWith('#') ? '' : ` [${href.replace(/[<>]/g, '')}] `;
    return tag.endsWith('>') ? '' : ' ';
  });
}

/** What is left without the tags: for HTML that cannot be converted, a few passes and no surprises. */
async function withoutTags(html: string): Promise<string> {
  const broken = withAddresses(withoutHidden(html)).replace(
    /<(?:br|\/(?:p|div|tr|li|dt|dd|table|center|address|summary|h[1-6]))\b[^>]*>?/gi,
    '\n',
  );
  // A < that begins no tag is text.
  const lines = broken.replace(/<[a-z/!?](?:"[^"]*"|'[^']*'|[^'">])*>?/gi, ' ').split('\n');
  const text = lines
    .map((line) => line.replace(/[ \t]+/g, ' ').trim())
    .filter(Boolean)
    .join('\n');
  const { decodeHTML } = await import('entities');
  const decoded = decodeHTML(text).replaceAll('\u00a0', ' ').split('\n');
  return decoded.map((line) => line.trimEnd()).join('\n');
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
