import { dirname, extname, resolve } from 'node:path';
import { assertDynamicFields, sendEmailNode } from '@flowpost/node-adapter';
import { invalid, readText, readYaml } from '../read-input.ts';

/** A message for many: settings of the send-email node, with expressions over `row`. */
export interface BatchTemplate {
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where its attachments are looked for. */
  readonly folder: string;
}

const quoteHint = 'Put values with special characters into quotes.';

const expressionLine = /^(\s*(?:- +)*(?:[\w-]+: +)?)(\{\{.*\}\}.*?)[ \t]*$/;
/** A line after which text comes as it is, as long as it stands further in (YAML 1.2 section 8.1). */
const blockBegin = /^(\s*)(?:- +)*(?:[^#]*: +)?[|>][+-]?\d?[+-]?[ \t]*(?:#.*)?$/;

/** A comment behind an expression goes (YAML 1.2 section 6.6). @returns undefined where it was meant to be sent. */
function withoutComment(text: string): string | undefined {
  // Outside of expressions only.
  const parts = text.split(/(\{\{.*?\}\})/);
  const at = parts.findIndex((part, index) => index % 2 === 0 && /\s#/.test(part));
  if (at < 0) return text;
  const kept = [...parts.slice(0, at), parts[at]?.replace(/\s#.*$/, '')].join('');
  return text.includes('{{', kept.length) ? undefined : kept.trimEnd();
}

/** What YAML's lexer says of the tokens that follow. */
const scalarFollows = '\x1f';
const marks: ReadonlySet<string> = new Set([scalarFollows, '\x02', '\x18']);

/**
 * Which line of a YAML text, from 1, has an expression in a comment behind a value, or below its beginning: `Your order
 * #{{ row.number }}`. It was meant to be sent.
 */
async function lineOfLostExpression(yaml: string): Promise<number | undefined> {
  const { Lexer } = await import('yaml');
  let before = '';
  let isScalar = false;
  for (const token of new Lexer().lex(yaml)) {
    const line = before.slice(before.lastIndexOf('\n') + 1);
    const isComment = token.startsWith('#') && !isScalar;
    const isBehind = line.trim() !== '' && token.includes('{{');
    const isBelow = line !== '' && token.startsWith('#{{');
    if (isComment && (isBehind || isBelow)) return before.split('\n').length;
    isScalar = token === scalarFollows;
    if (!marks.has(token)) before += token;
  }
  return undefined;
}

/** `to: {{ row.email }}` means that text, though to YAML it is something else. */
function quoteExpressions(yaml: string): string {
  let block: number | undefined;
  /** Whether the line before was a name or a dash, whose value comes below. */
  let opens = false;
  const quote = (line: string): string => {
    const indent = line.search(/\S/);
    if (block !== undefined && (indent === -1 || indent > block)) return line;
    block = blockBegin.exec(line)?.[1]?.length;
    const [, before = '', text] = expressionLine.exec(line) ?? [];
    // Further in, below a value that has begun, it is a part of that and needs no quotes.
    const continues = before.trim() === '' && before !== '' && !opens;
    if (line.trim() !== '') opens = /[:-]\s*$/.test(line);
    if (text === undefined || continues) return line;
    const value = withoutComment(text);
    return value === undefined ? line : `${before}${JSON.stringify(value)}`;
  };
  return yaml.split(/\r?\n/).map(quote).join('\n');
}

/** Between two lines of `---` at the beginning, as static site generators have it. */
function split(text: string): readonly [frontMatter: string, body: string] | undefined {
  const found = /^\s*---[ \t]*\r?\n(.*?)(?<=\n)---[ \t]*(?:\r?\n|$)(.*)$/s.exec(text);
  return found ? [found[1] ?? '', found[2] ?? ''] : undefined;
}

/**
 * Reads a template: YAML between `---` lines, then the text, which is HTML when the file is called so.
 *
 * @throws MailError `FILE_UNREADABLE`, `INPUT_INVALID` or `DYNAMIC_FIELD_INVALID`.
 */
export async function readTemplate(path: string): Promise<BatchTemplate> {
  const [frontMatter, body] = split(await readText(path)) ?? [];
  if (frontMatter === undefined || body === undefined) {
    throw invalid(
      path,
      'it does not begin with settings between two lines of ---',
      'Begin it with ---, then lines such as to: {{ row.email }} and subject: Hello, then --- and the text.',
    );
  }
  const yaml = quoteExpressions(frontMatter);
  const lost = await lineOfLostExpression(yaml);
  // The first line of the file is the one of ---.
  if (lost !== undefined)
    throw invalid(path, `line ${lost + 1} ends at the #: what follows is a comment`, quoteHint);
  const read = await readYaml(yaml, true);
  if (!('value' in read)) {
    const line = read.line === undefined ? '' : ` (line ${read.line + 1})`;
    throw invalid(path, `its settings are not valid YAML${line}`, quoteHint);
  }
  const settings = read.value ?? {};
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) {
    throw invalid(path, 'its settings are not names with values', 'Write a line such as subject: Hello.');
  }
  const given = settings as Record<string, unknown>;
  const kind = /^\.html?$/i.test(extname(path)) ? 'html' : 'text';
  const hasBody = body.trim() !== '';
  if (hasBody && given[kind] !== undefined) {
    throw invalid(path, `it has ${kind} twice, as a setting and below`, 'Remove one of them.');
  }
  for (const never of ['async', 'store']) {
    if (given[never] !== undefined)
      throw invalid(path, `${never} means nothing in a batch`, 'Remove that line.');
  }
  const named = sendEmailNode.settings.safeParse(given).error?.issues;
  // Of values nothing can be said before there is a row; a wrong name would be wrong in every one of them.
  const unknown = named?.flatMap((one) =>
    one.code === 'unrecognized_keys' && one.path.length === 0 ? one.keys : [],
  );
  if (unknown && unknown.length > 0) {
    const hint = 'Correct the names; they are those of the send-email step (flowpost send --help).';
    throw invalid(path, `there is no setting ${unknown.map((one) => JSON.stringify(one)).join(', ')}`, hint);
  }
  const all = { ...given, ...(hasBody && { [kind]: body }) };
  assertDynamicFields(all, new Map([['html', 'html']]));
  return { settings: all, folder: dirname(resolve(path)) };
}
