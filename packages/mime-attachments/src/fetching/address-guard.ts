import { BlockList, isIP } from 'node:net';
import { MailError, withoutBrackets } from '@flowpost/core';

/** A name as the DNS compares it. */
const normalizeName = (host: string): string => host.toLowerCase().replace(/\.$/, '');

function addSubnet(list: BlockList, network: string): boolean {
  const [address = '', bits, ...rest] = network.split('/');
  const version = isIP(withoutBrackets(address));
  const most = version === 4 ? 32 : 128;
  const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
  if (version === 0 || rest.length > 0 || !(prefix <= most)) return false;
  list.addSubnet(withoutBrackets(address), prefix, version === 4 ? 'ipv4' : 'ipv6');
  return true;
}

function subnets(networks: string): BlockList {
  const list = new BlockList();
  for (const network of networks.split(' ')) addSubnet(list, network);
  return list;
}

/**
 * What is not the public internet, by the special-purpose registries of RFC 6890 and IANA: this network, private,
 * CGNAT, loopback, link-local (with the clouds' metadata services), protocol assignments, documentation,
 * benchmarking, 6to4 relays, multicast, reserved, broadcast.
 */
const notPublicV4 = subnets(
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 ' +
    '192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 ' +
    '203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32 100.100.100.200/32',
);
/** All public IPv6 addresses come from here, so mapped, NAT64 and local ones are out without being named. */
const globalV6 = subnets('2000::/3');
/** Within it: protocol assignments (Teredo, ORCHID, AMT), documentation, 6to4 with any IPv4 address inside, SRv6. */
const notPublicV6 = subnets('2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20');

/** Whether an address (IPv4 or IPv6, without brackets) belongs to the public internet (RFC 6890). */
export function isPublicAddress(address: string): boolean {
  const version = isIP(address);
  if (version === 4) return !notPublicV4.check(address, 'ipv4');
  return version === 6 && globalV6.check(address, 'ipv6') && !notPublicV6.check(address, 'ipv6');
}

/** A name or an address with a port; an IPv6 address stands in brackets then. */
const withPort = /^(\[[^\]]+\]|[^:/]+):(\d{1,5})$/;

/** A host as URLs have it, and a port. */
function placeOf(host: string, port: number | string): string {
  const bare = withoutBrackets(host);
  // An IPv6 address can be written in many ways.
  const plain = isIP(bare) === 6 ? withoutBrackets(URL.parse(`http://[${bare}]`)?.hostname ?? bare) : bare;
  return `${normalizeName(plain)} ${Number(port)}`;
}

/** Whether a text is a name of the DNS and no number, which would be an address. */
const isName = (text: string): boolean =>
  /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?$/i.test(text) && !/(?:^|\.)\d+\.?$/.test(text);

const refused = (entry: string): MailError =>
  new MailError(
    'INPUT_INVALID',
    `${JSON.stringify(entry)} is neither a host name or an address, with or without a port, nor a network such as 10.1.0.0/16.`,
    { details: { issues: [{ path: 'urls.allowedHosts', message: 'a name, an address or a network' }] } },
  );

/** Decides which addresses a fetch may connect to: public ones, and what the host's operator allows. */
export class AddressGuard {
  readonly #names = new Set<string>();
  /** Of these one port is open, and nothing else. */
  readonly #places = new Set<string>();
  readonly #networks = new BlockList();

  /** @throws MailError `INPUT_INVALID` for an entry that is no name or address, with or without a port, and no network. */
  constructor(allowed: readonly string[]) {
    for (const entry of allowed) if (!this.#add(entry)) throw refused(entry);
  }

  #add(entry: string): boolean {
    const [, host = '', port] = withPort.exec(entry) ?? [];
    if (port !== undefined) {
      const isPort = Number(port) > 0 && Number(port) < 65_536;
      if (!isPort || !(isName(host) || isIP(withoutBrackets(host)) > 0)) return false;
      this.#places.add(placeOf(host, port));
      return true;
    }
    if (addSubnet(this.#networks, entry)) return true;
    if (isName(entry)) this.#names.add(normalizeName(entry));
    return isName(entry);
  }

  /** Whether a port that is none of the usual ones may be used at a host. */
  allowsPort(host: string, port: number): boolean {
    return this.#places.has(placeOf(host, port));
  }

  /** Whether a connection to `address`, which `host` leads to, may be made. */
  allows(host: string, address: string, port: number): boolean {
    if (isPublicAddress(address) || this.#names.has(normalizeName(host))) return true;
    if (this.allowsPort(host, port) || this.allowsPort(address, port)) return true;
    return isIP(address) > 0 && this.#networks.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6');
  }
}

/** The address a URL's host is, when it is one: brackets off. WHATWG parsing has made 0x7f.1 and 2130706433 plain. */
export function literalAddress(hostname: string): string | undefined {
  const host = withoutBrackets(hostname);
  return isIP(host) > 0 ? host : undefined;
}
