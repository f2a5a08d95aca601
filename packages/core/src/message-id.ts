/**
 * A message id (RFC 5322 section 3.6.4) in angle brackets, at the domain of an address.
 *
 * @param address as it goes over the wire: its domain in ASCII.
 * @param unique the part before the @. Default a random UUID; the same one makes the same id again.
 */
export function createMessageId(address: string, unique: string = globalThis.crypto.randomUUID()): string {
  return `<${unique}${address.slice(address.lastIndexOf('@'))}>`;
}
