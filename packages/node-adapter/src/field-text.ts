import { types } from 'node:util';

/** How a value looks inside other text. */
export function asText(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(asText).join(', ');
  if (typeof value !== 'object') return String(value);
  if (types.isUint8Array(value)) return Buffer.from(value).toString('utf8');
  // An invalid one throws.
  if (types.isDate(value)) return Date.prototype.toISOString.call(value);
  // URLs and the like say themselves how they are written.
  const { toJSON } = value as { toJSON?: unknown };
  const written: unknown = typeof toJSON === 'function' ? toJSON.call(value) : value;
  return typeof written === 'object' && written !== null ? JSON.stringify(written) : asText(written);
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
};
/** The same in HTML. */
export const asHtml = (value: unknown): string =>
  asText(value).replace(/[&<>"']/g, (one) => escapes[one] ?? one);
