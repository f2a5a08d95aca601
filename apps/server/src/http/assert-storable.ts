import { MailError } from '@flowpost/core';
import { isStorable } from '../database/storable.ts';

/** Deeper than anybody means; the database's own limit is that of its stack, and reaching it ends it. */
const deepest = 100;

interface Unstorable {
  /** Names and numbers, the innermost first. */
  readonly path: (string | number)[];
  readonly message: string;
}

/** What in a value no database can hold. A request may have millions of parts, so their paths are made for what is found only. */
function findUnstorable(value: unknown, depth = 0): Unstorable | undefined {
  if (typeof value === 'string')
    return isStorable(value) ? undefined : { path: [], message: 'it holds a NUL or half a surrogate pair' };
  if (typeof value !== 'object' || value === null) return undefined;
  if (depth === deepest) return { path: [], message: `there is no place for more than ${deepest} levels` };
  if (Array.isArray(value)) {
    for (const [index, one] of value.entries()) {
      const found = findUnstorable(one, depth + 1);
      if (found) return { ...found, path: [...found.path, index] };
    }
    return undefined;
  }
  for (const key in value) {
    const found = findUnstorable(key) ?? findUnstorable((value as Record<string, unknown>)[key], depth + 1);
    if (found) return { ...found, path: [...found.path, key] };
  }
  return undefined;
}

/** @throws MailError `INPUT_INVALID` for what no database can hold, wherever it stands. */
export function assertStorable(value: unknown): void {
  const found = findUnstorable(value);
  if (!found) return;
  const path = found.path.reverse().join('.').slice(0, 100);
  throw new MailError('INPUT_INVALID', `${path || 'The request'}: ${found.message}.`, {
    details: { issues: [{ path, message: found.message }] },
  });
}
