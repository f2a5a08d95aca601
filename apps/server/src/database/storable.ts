/**
 * JSON as the database takes it: a NUL or half a surrogate pair, which jsonb refuses, becomes U+FFFD. What others say is written
 * down with it, and must not be able to keep that from happening.
 */
export function storable(value: unknown): string {
  const json = JSON.stringify(value);
  // Most of what is long has none.
  if (!json.includes('\\u')) return json;
  // JSON.stringify writes both as escapes; an escaped backslash before them makes them something else.
  return json.replace(/\\\\|\\u0000|\\ud[89a-f][0-9a-f]{2}/gi, (found) =>
    found === '\\\\' ? found : '\ufffd',
  );
}

/** Whether a text can be stored as it is. */
export const isStorable = (text: string): boolean => !text.includes('\0') && text.isWellFormed();
