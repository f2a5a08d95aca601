/**
 * A value as an SQL literal of no type yet: PostgreSQL reads it as whatever type belongs there.
 *
 * @throws Error with SQLSTATE 22021 for a NUL, which would be the end of the statement.
 */
export function literal(value: unknown): string {
  return value === null || value === undefined ? 'null' : quoted(textOf(value));
}

/** With `standard_conforming_strings`, which is on, a backslash is a backslash. */
function quoted(text: string): string {
  if (text.includes('\0')) throw Object.assign(new Error('text cannot hold a NUL'), { code: '22021' });
  return `'${text.replaceAll("'", "''")}'`;
}

/** The text PostgreSQL's input functions read. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (Array.isArray(value)) return `{${value.map(elementOf).join(',')}}`;
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

const elementOf = (value: unknown): string =>
  value === null || value === undefined ? 'NULL' : `"${textOf(value).replace(/["\\]/g, '\\$&')}"`;
