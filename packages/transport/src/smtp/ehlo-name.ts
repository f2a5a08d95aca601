import { isIP, isIPv6 } from 'node:net';
import { hostname } from 'node:os';

/** RFC 5321 section 4.1.4: this machine's full name, or its address when it has none. */
export function ownName(address: string | undefined): string {
  const name = hostname();
  if (/^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/i.test(name) && isIP(name) === 0) return name;
  const plain = (address ?? '127.0.0.1').replace(/^::ffff:/, '').replace(/%.*$/, '');
  return isIPv6(plain) ? `[IPv6:${plain}]` : `[${plain}]`;
}
