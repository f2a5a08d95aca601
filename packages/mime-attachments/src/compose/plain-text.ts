import type { HtmlToTextOptions } from 'html-to-text';

const options: HtmlToTextOptions = {
  wordwrap: 78,
  selectors: [
    // A link whose text is its address is shown once, and one to a place in the mail itself leads nowhere in text.
    { selector: 'a', options: { hideLinkHrefIfSameAsText: true, noAnchorUrl: true } },
    // Pictures say nothing in text but by their alternative text.
    { selector: 'img', options: { linkBrackets: false, baseUrl: '' }, format: 'imageText' },
    ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6'].map((selector) => ({ selector, options: { uppercase: false } })),
    { selector: 'table', format: 'dataTable', options: { uppercaseHeaderCells: false } },
  ],
  // Nothing long is cut off; nobody nests this deeply but to exhaust the stack.
  limits: { maxInputLength: Number.MAX_SAFE_INTEGER, maxDepth: 200 },
  formatters: {
    imageText: (element, _walk, builder) => {
      const { alt } = element.attribs ?? {};
      if (alt) builder.addInline(alt, { noWordTransform: true });
    },
  },
};

let convert: Promise<(html: string) => string> | undefined;

/** The plain text of an HTML body, for readers that show no HTML. */
export async function plainTextOf(html: string): Promise<string> {
  // Loaded by who needs it: most messages bring their own text.
  convert ??= import('html-to-text').then(({ compile }) => compile(options));
  return (await convert)(html);
}
