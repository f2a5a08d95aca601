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

/** Behind the `>` of a tag; within a value in quotes it is none, and a quote that is not behind a = begins no value. */
function endOfTag(html: string, from: number): number {
  const mark = /=\s*(["'])|>/g;
  mark.lastIndex = from;
  for (let found = mark.exec(html); found; found = mark.exec(html)) {
    const { 1: quote } = found;
    if (quote === undefined) return mark.lastIndex;
    const end = html.indexOf(quote, mark.lastIndex);
    if (end >= 0) mark.lastIndex = end + 1;
  }
  return html.length;
}

/** Tags that end a line, by their names. */
const endsLine = /^(?:br|\/(?:p|div|tr|li|dt|dd|table|center|address|summary|h[1-6]))$/i;

/** The address of a link, to stand behind its text. */
function addressIn(tag: string): string {
  const [, double, single, bare] = /\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/i.exec(tag) ?? [];
  const href = (double ?? single ?? bare ?? '').trim();
  return href === '' || href.startsWith('#') ? '' : ` [${href.replace(/[<>]/g, '')}] `;
}

/** Tags become spaces, ends of lines or addresses. A < that begins no tag is text. */
function betweenTags(html: string): string {
  const begin = /<(?:(\/?[a-z][^\s/>]*)|[/!?])/gi;
  let text = '';
  let at = 0;
  let address = '';
  for (let found = begin.exec(html); found; found = begin.exec(html)) {
    const { index, 1: name = '' } = found;
    const end = endOfTag(html, begin.lastIndex);
    text += html.slice(at, index);
    if (/^a$/i.test(name)) address = addressIn(html.slice(index, end));
    else if (/^\/a$/i.test(name)) {
      text += address;
      address = '';
    } else text += endsLine.test(name) ? '\n' : ' ';
    at = end;
    begin.lastIndex = end;
  }
  return text + html.slice(at);
}

/** What is left without the tags: for HTML that cannot be converted, a few passes and no surprises. */
export async function withoutTags(html: string): Promise<string> {
  const text = betweenTags(withoutHidden(html))
    .split('\n')
    .map((line) => line.replace(/[ \t]+/g, ' ').trim())
    .filter(Boolean)
    .join('\n');
  const { decodeHTML } = await import('entities');
  const decoded = decodeHTML(text).replaceAll('\u00a0', ' ').split('\n');
  return decoded.map((line) => line.trimEnd()).join('\n');
}
