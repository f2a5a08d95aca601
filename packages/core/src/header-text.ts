import { z } from 'zod';

/** CR, LF and NUL would end or corrupt a header line; other control characters have no place in one either. */
const notInHeaders = /[\x00-\x08\x0a-\x1f\x7f]/;

/** What keeps a text from being a header's value, or undefined when nothing does. */
export function headerTextProblem(text: string): string | undefined {
  const found = notInHeaders.exec(text);
  if (found) {
    const code = text.charCodeAt(found.index).toString(16).padStart(2, '0');
    return `it contains a line break or control character (0x${code}) at position ${found.index + 1}`;
  }
  return text.isWellFormed() ? undefined : 'it contains half a character (a lone surrogate)';
}

/** A text that is safe as a header's value: one line, no control characters (RFC 5322 section 2.2). */
export const headerTextSchema = headerTokenSchema(/^/, 'text');

/** A text of one line that must match a pattern; a line break in it is reported as such. */
export function headerTokenSchema(pattern: RegExp, expected: string) {
  return z.string().superRefine((text, context) => {
    const problem = headerTextProblem(text);
    if (problem) context.addIssue({ code: 'custom', message: problem, params: { code: 'HEADER_INVALID' } });
    else if (!pattern.test(text)) context.addIssue({ code: 'custom', message: `it must be ${expected}` });
  });
}
