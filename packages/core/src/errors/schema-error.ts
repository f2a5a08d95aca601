import type { z } from 'zod';
import type { ErrorCode } from './error-codes.ts';
import { errorCodes } from './error-codes.ts';
import { MailError } from './mail-error.ts';

/** One field that does not fit its schema. */
export interface SchemaIssue {
  /** Where it stands, as in `attachments[0].filename`; empty for the whole value. */
  readonly path: string;
  readonly message: string;
  /** What kind of mistake it is, where a platform has a name for it. */
  readonly problem?: string;
}

/** Whoever has to mend more than this mends something that all have in common; an error has to fit into the data of a flow. */
const mostListed = 50;
const longestPath = 200;
const longestMessage = 500;

/** The first of many sentences as one, and how many there are besides. */
export function listProblems(sentences: readonly string[]): string {
  const more = sentences.length - mostListed;
  return sentences.slice(0, mostListed).join('; ') + (more > 0 ? `; and ${more} more` : '');
}

/** As many of many problems as are listed. */
export const listed = <Problem>(problems: readonly Problem[]): Problem[] => problems.slice(0, mostListed);

/** As much of a text as is worth repeating. */
export const shorten = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length)}...` : text;

function formatPath(path: readonly PropertyKey[]): string {
  const text = path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, '');
  return shorten(text, longestPath);
}

/** A union reports what each of its members found; the member that got furthest says what was meant. */
function flatten(
  issues: readonly z.core.$ZodIssue[],
  prefix: readonly PropertyKey[] = [],
): z.core.$ZodIssue[] {
  return issues.flatMap((issue) => {
    const path = [...prefix, ...issue.path];
    if (issue.code === 'invalid_union') {
      const depth = (branch: readonly z.core.$ZodIssue[]): number =>
        Math.max(...branch.map((i) => i.path.length));
      const best = issue.errors.filter((branch) => branch.length > 0).sort((a, b) => depth(b) - depth(a))[0];
      if (best && depth(best) > 0) return flatten(best, path);
    }
    // What is wrong with a name says its own schema.
    const named = issue.code === 'invalid_key' ? issue.issues[0] : undefined;
    return [{ ...issue, path, ...(named && { message: named.message }) }];
  });
}

/** Forms hand over null, or empty text, for what nobody filled in. */
const isLeftOut = (value: unknown): boolean => value === undefined || value === null || value === '';

/** What does not fit. Of a union that goes by one of its fields, that is this field. */
function inputOf(issue: z.core.$ZodIssue): unknown {
  const { input } = issue;
  if (issue.code !== 'invalid_union' || issue.discriminator === undefined) return input;
  return (input as Readonly<Record<string, unknown>> | null | undefined)?.[issue.discriminator];
}

function codeOf(issue: z.core.$ZodIssue): ErrorCode | undefined {
  const code = issue.code === 'custom' ? issue.params?.code : undefined;
  return typeof code === 'string' && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : undefined;
}

/**
 * Checks a value against a schema.
 *
 * @throws MailError listing every bad field in `details.issues`, in one go, up to 50. Its code is the one all issues share
 * (such as `ADDRESS_INVALID`), otherwise `fallback`, `INPUT_INVALID` by default.
 */
export function parseWith<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  fallback: ErrorCode = 'INPUT_INVALID',
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  // Only where something is wrong is it worth knowing what.
  const { error = result.error } = schema.safeParse(value, { reportInput: true });
  const found = flatten(error.issues);
  const issues = found.map((issue): SchemaIssue => {
    const problem = issue.code === 'custom' ? issue.params?.problem : undefined;
    const { path } = issue;
    const isWrong = issue.code === 'invalid_type' || issue.code === 'invalid_union';
    const isMissing = isWrong && path.length > 0 && isLeftOut(inputOf(issue));
    // The sentence of an address list names many of them.
    const longest = codeOf(issue) === 'ADDRESS_INVALID' ? Number.POSITIVE_INFINITY : longestMessage;
    const message = isMissing ? 'it is missing' : shorten(issue.message, longest);
    return { path: formatPath(path), message, ...(typeof problem === 'string' && { problem }) };
  });
  const codes = new Set(found.map(codeOf));
  const [shared] = codes;
  const onlyConnection = found.every(({ path }) => path[0] === 'connection');
  const otherwise = onlyConnection ? 'CONNECTION_INVALID' : fallback;
  const problems = found.flatMap((issue) => (issue.code === 'custom' ? (issue.params?.problems ?? []) : []));
  throw new MailError(
    codes.size === 1 && shared !== undefined ? shared : otherwise,
    listProblems(issues.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`))),
    { details: { issues: listed(issues), ...(problems.length > 0 && { problems: listed(problems) }) } },
  );
}
