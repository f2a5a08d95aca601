import { describe, expect, it } from 'vitest';
import { AddressGuard } from './address-guard.ts';

const guard = new AddressGuard([]);

it('an address with a port is open there to every name that leads to it', () => {
  const opened = new AddressGuard(['10.1.2.3:9000']);
  expect(opened.allows('files.x.org', '10.1.2.3', 9000)).toBe(true);
  expect(opened.allows('files.x.org', '10.1.2.3', 80)).toBe(false);
});

describe('without exceptions', () => {
  it.each(['1.1.1.1', '8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700:4700::1111', '2a00:1450:4001::1'])(
    '%s is public',
    (address) => {
      expect(guard.allows('x.org', address, 443)).toBe(true);
    },
  );

  it.each([
    '0.0.0.0',
    '0.1.2.3',
    '10.0.0.1',
    '100.64.0.1',
    '100.100.100.200',
    '127.0.0.1',
    '127.255.255.255',
    '168.63.129.16',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.0.2.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:8.8.8.8',
    '::ffff:0:127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::808:808',
    '64:ff9b:1::a00:1',
    '100::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::',
    '3fff::1',
    '5f00::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fe80::1%lo',
    'fec0::1',
    'ff02::1',
    'nonsense',
  ])('%s is not', (address) => {
    expect(guard.allows('x.org', address, 443)).toBe(false);
  });
});

describe('exceptions', () => {
  it.each([
    [['10.1.0.0/16'], 'x', '10.1.255.1', true],
    [['10.1.0.0/16'], 'x', '10.2.0.1', false],
    [['10.1.0.0/16'], 'x', '::ffff:10.1.0.1', true],
    [['127.0.0.1'], 'x', '127.0.0.1', true],
    [['127.0.0.1'], 'x', '127.0.0.2', false],
    [['fd00::/8'], 'x', 'fd12::1', true],
    [['[::1]'], 'x', '::1', true],
    [['files.internal'], 'Files.Internal.', '10.0.0.1', true],
    [['files.internal'], 'evil.internal', '10.0.0.1', false],
  ])('%j for %s at %s: %s', (allowed, host, address, expected) => {
    expect(new AddressGuard(allowed).allows(host, address, 443)).toBe(expected);
  });

  it.each([
    ['files.internal:9000', 'FILES.internal.', 9_000, true],
    ['files.internal:9000', 'files.internal', 9_001, false],
    ['files.internal:9000', 'other.internal', 9_000, false],
    ['files.internal', 'files.internal', 9_000, false],
    ['127.0.0.1:9000', '127.0.0.1', 9_000, true],
    ['[::1]:9000', '[::1]', 9_000, true],
    ['::1', '[::1]', 1, false],
  ])('%s opens for %s port %i: %s', (entry, host, port, expected) => {
    const guard = new AddressGuard([entry]);
    expect(guard.allowsPort(host, port)).toBe(expected);
    // Of what is private nothing but that port.
    const address = host.includes(':') ? '::1' : '127.0.0.1';
    const isOpen = expected || !/:\d{4}$/.test(entry);
    expect(guard.allows(host, address, port)).toBe(isOpen);
    expect(guard.allows(host, address, 443)).toBe(!/:\d{4}$/.test(entry));
  });

  it.each([
    ['[FD00:0:0::1]:9000', '[fd00::1]'],
    ['[::ffff:10.0.0.1]:9000', '[::ffff:a00:1]'],
  ])('%s is %s, however it is written', (entry, host) => {
    expect(new AddressGuard([entry]).allowsPort(host, 9_000)).toBe(true);
  });

  it.each([
    ...['10.1.0.0/33', '10.1.0.0/', '10.1/16', '1.2.3', 'a b', '', 'fd00::/129', '10.0.0.0/8/8'],
    ...['10.0.0.0/8:9000', 'files.internal:', 'files.internal:port', ':9000'],
    ...['files.internal:0', 'files.internal:65536'],
  ])('%j is refused', (entry) => {
    expect(() => new AddressGuard([entry])).toThrow(/is neither a host name or an address/);
  });
});
