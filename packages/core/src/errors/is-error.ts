/**
 * Whether a value is an error, also one of another realm: hosts run flows in sandboxes (`node:vm`), whose classes are others with the
 * same names. A DOMException, as of `AbortSignal.timeout`, is one too.
 */
export const isError = (value: unknown): value is Error =>
  value instanceof Error || /^\[object (?:Error|DOMException)\]$/.test(Object.prototype.toString.call(value));
