import { isPlainObject } from '@flowpost/core';

/**
 * The value of a JSON field of a host's form, which is text in some places, and an empty object where there is nothing. Text that
 * is not JSON stays as it is: the settings say what is wrong with it.
 */
export function readJsonField(value: unknown): unknown {
  let parsed = value;
  if (typeof value === 'string') {
    try {
      parsed = JSON.parse(value);
    } catch {
      // As it is.
    }
  }
  return isPlainObject(parsed) && Object.keys(parsed).length === 0 ? undefined : parsed;
}
