import { isIPv4 } from 'node:net';
import { hostname } from 'node:os';

/** RFC 5321 section 4.1.4: this machine's full name, or its address when it has none. */
export function ownName(address: string | undefined): string {
  const name = hostname();
  if (/^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/i.test(name) && !isIPv4(name)) return name;
  const plain = (address ?? '127.0.0.1').replace(/^::ffff:/, '').replace(/%.*$/, '');
  // Of addresses only those have colons; asking Node costs a command that sends one message milliseconds.
  return plain.includes(':') ? `[IPv6:${plain}]` : `[${plain}]`;
}
