/** A host as one connects to it: an IPv6 address without its brackets (RFC 3986 section 3.2.2). */
export const withoutBrackets = (host: string): string => host.replace(/^\[(.*)\]$/, '$1');

/** The port of a URL, that of its scheme included. */
export const portOf = ({ port, protocol }: { readonly port: string; readonly protocol: string }): number =>
  Number(port) || (protocol === 'https:' ? 443 : 80);

/** Of those that are nobody's own (RFC 6335 section 6), the ports of protocols that a request over http could be taken for. */
const blocked = new Set([
  ...[1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566],
  ...[6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080],
]);

/**
 * Whether \`fetch\` may refuse a port unasked. Of the well-known ports only those of http are sure to be none.
 *
 * @see https://fetch.spec.whatwg.org/#port-blocking
 */
export const isBlockedPort = (port: number): boolean =>
  blocked.has(port) || (port > 0 && port < 1024 && ![80, 443].includes(port));
