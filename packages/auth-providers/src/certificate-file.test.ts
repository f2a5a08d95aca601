import { execFileSync, spawnSync } from 'node:child_process';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentialSchema } from '@flowpost/core';
import { createSelfSigned } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assertRsaKey, assertValidNow, openCertificate, readCertificateFile } from './certificate-file.ts';
import { createAuthProvider } from './create-auth-provider.ts';

// The files are made by the tool most of them come from. Without it there is nothing to test against.
const opensslVersion = spawnSync('openssl', ['version'], { encoding: 'utf8' }).stdout ?? '';
const hasOpenssl = opensslVersion.startsWith('OpenSSL 3');
if (!hasOpenssl)
  process.stderr.write('openssl 3 is not installed; the tests of certificate files are skipped\n');

let folder: string;
const at = (name: string): string => join(folder, name);
const openssl = (...args: string[]): void => {
  execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
};

function makeCertificate(name: string, key: string[], subject = `/CN=${name}`): void {
  openssl(
    'req',
    '-x509',
    '-newkey',
    ...key,
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.crt`,
    '-days',
    '30',
    '-subj',
    subject,
  );
}

/** A PKCS#12 file of the RSA pair; gives its bytes. */
function pkcs12(name: string, args: string[], password = 'Passw0rd', pair = 'rsa'): Buffer {
  openssl(
    'pkcs12',
    '-export',
    '-in',
    `${pair}.crt`,
    '-inkey',
    `${pair}.key`,
    '-out',
    `${name}.p12`,
    '-passout',
    `pass:${password}`,
    ...args,
  );
  return readFileSync(at(`${name}.p12`));
}

const subject = (certificate: X509Certificate): string => certificate.subject;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flowpost-certificates-'));
  if (!hasOpenssl) return;
  makeCertificate('rsa', ['rsa:2048']);
  makeCertificate('other', ['rsa:2048']);
  makeCertificate('small', ['rsa:1024']);
  makeCertificate('ec', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function expectPair(file: Uint8Array, password?: string, name = 'rsa'): Promise<void> {
  const { certificate, privateKey } = await openCertificate(file, password);
  expect(subject(certificate)).toBe(`CN=${name}`);
  expect(createPublicKey(privateKey).equals(certificate.publicKey)).toBe(true);
}

const aes = (bits: number): string[] => ['-keypbe', `AES-${bits}-CBC`, '-certpbe', `AES-${bits}-CBC`];
const tripleDes = ['-keypbe', 'PBE-SHA1-3DES', '-certpbe', 'PBE-SHA1-3DES'];

describe.skipIf(!hasOpenssl)('PKCS#12', () => {
  it.each<[string, string[], string?, string?]>([
    ['OpenSSL 3 default', []],
    ['OpenSSL legacy: RC2-40 and 3DES', ['-legacy']],
    ['Windows TripleDES', [...tripleDes, '-macalg', 'sha1']],
    ['Windows AES-256', [...aes(256), '-iter', '2000', '-macalg', 'sha256']],
    ['AES-128', aes(128)],
    ['AES-192', aes(192)],
    ['MAC with SHA-1', [...aes(256), '-macalg', 'sha1']],
    ['MAC with SHA-384', [...aes(256), '-macalg', 'sha384']],
    ['MAC with SHA-512', [...aes(256), '-macalg', 'sha512']],
    ['3DES with SHA-256', [...tripleDes, '-macalg', 'sha256']],
    ['3DES with two keys', ['-keypbe', 'PBE-SHA1-2DES', '-certpbe', 'PBE-SHA1-2DES']],
    ['PBES2 with 3DES', ['-keypbe', 'DES-EDE3-CBC', '-certpbe', 'DES-EDE3-CBC']],
    ['certificates in clear', ['-certpbe', 'NONE']],
    ['everything in clear', ['-certpbe', 'NONE', '-keypbe', 'NONE']],
    ['no MAC', ['-nomac']],
    ['no password', [], ''],
    ['no password, legacy', ['-legacy'], ''],
    ['a non-ASCII password', [], 'Päßwörd€🔑'],
    ['a non-ASCII password, 3DES', tripleDes, 'Päßwörd€'],
    ['a non-ASCII password, legacy', ['-legacy'], 'Päßwörd€'],
    ['a long password', [], 'x'.repeat(200)],
    ['an EC key', [], 'Passw0rd', 'ec'],
    ['an EC key, 3DES', tripleDes, 'Passw0rd', 'ec'],
  ])('%s', async (_, args, password = 'Passw0rd', pair = 'rsa') => {
    const file = pkcs12('suite', args, password, pair);
    await expectPair(file, password, pair);
    if (password !== '' && !args.includes('NONE')) {
      await expect(openCertificate(file, `${password}x`)).rejects.toMatchObject({
        code: 'CERTIFICATE_PASSWORD_WRONG',
      });
    }
  });

  it('a chain, the leaf told apart from the authority', async () => {
    writeFileSync(at('ca.cnf'), 'basicConstraints=CA:FALSE\n');
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'leaf.key',
      '-out',
      'leaf.csr',
      '-subj',
      '/CN=leaf',
    );
    openssl(
      'x509',
      '-req',
      '-in',
      'leaf.csr',
      '-CA',
      'rsa.crt',
      '-CAkey',
      'rsa.key',
      '-CAcreateserial',
      '-days',
      '9',
      '-out',
      'leaf.crt',
      '-extfile',
      'ca.cnf',
    );
    const { certificate, chain } = await openCertificate(
      pkcs12('chain', ['-certfile', 'rsa.crt'], 'Passw0rd', 'leaf'),
      'Passw0rd',
    );
    expect([subject(certificate), chain.map(subject)]).toEqual(['CN=leaf', ['CN=rsa']]);
  });

  it('many iterations, without holding up the event loop', async () => {
    const files = [
      pkcs12('slow', ['-iter', '600000']),
      // Its derivation is our own, and takes turns however long it is.
      pkcs12('slow3des', ['-iter', '200000', ...tripleDes]),
    ];
    for (const file of files) {
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      await expectPair(file, 'Passw0rd');
      clearInterval(timer);
      // Counted, not timed: others use the same processor. One derivation in one turn would leave a few.
      expect(turns).toBeGreaterThan(15);
    }
  });

  it('a cost beyond reason is refused before it is paid', async () => {
    // With a wrong password, so that deriving anything first would have ended otherwise.
    // Making such a file would cost as much: its numbers are written into another one.
    const cheap = pkcs12('cost', ['-iter', '66051']).toString('latin1');
    const file = Buffer.from(cheap.replaceAll('\x02\x03\x01\x02\x03', '\x02\x03\x5b\x8d\x81'), 'latin1');
    expect(file.toString('latin1')).not.toBe(cheap);
    await expect(openCertificate(file, 'wrong')).rejects.toMatchObject({ code: 'CERTIFICATE_TOO_COSTLY' });
  });

  it.each([
    ['RC4', ['-legacy', '-keypbe', 'PBE-SHA1-RC4-128', '-certpbe', 'PBE-SHA1-RC4-128']],
    ['RC2-128', ['-legacy', '-keypbe', 'PBE-SHA1-RC2-128', '-certpbe', 'PBE-SHA1-RC2-128']],
    ['Camellia', ['-keypbe', 'CAMELLIA-256-CBC', '-certpbe', 'CAMELLIA-256-CBC']],
  ])('%s is refused by name', async (_, args) => {
    await expect(openCertificate(pkcs12('odd', args), 'Passw0rd')).rejects.toMatchObject({
      code: 'CERTIFICATE_CIPHER_UNSUPPORTED',
      category: 'configuration',
      details: { algorithm: expect.stringMatching(/^[\d.]+$/) },
    });
  });

  it('a certificate without its key, or with another one', async () => {
    openssl('pkcs12', '-export', '-nokeys', '-in', 'rsa.crt', '-out', 'nokey.p12', '-passout', 'pass:x');
    const missing = openCertificate(readFileSync(at('nokey.p12')), 'x');
    await expect(missing).rejects.toMatchObject({
      code: 'CERTIFICATE_KEY_MISSING',
      details: { keys: 0, certificates: 1 },
    });
    await expect(openCertificate(readFileSync(at('nokey.p12')))).rejects.toMatchObject({
      code: 'CERTIFICATE_PASSWORD_WRONG',
      hint: expect.stringContaining('certificatePassword'),
    });
    await expect(openCertificate(readFileSync(at('other.key')))).rejects.toMatchObject({
      code: 'CERTIFICATE_NOT_RECOGNIZED',
      details: { keys: 1, certificates: 0 },
    });
    const mixed = readFileSync(at('rsa.crt'), 'utf8') + readFileSync(at('other.key'), 'utf8');
    await expect(openCertificate(Buffer.from(mixed))).rejects.toMatchObject({
      code: 'CERTIFICATE_KEY_MISSING',
    });
  });

  it('one changed byte is refused, or changes nothing that counts', async () => {
    const file = pkcs12('changed', []);
    let refused = 0;
    for (let index = 0; index < file.length; index += 37) {
      const changed = Buffer.from(file);
      changed[index] = (changed[index] ?? 0) ^ 0x41;
      try {
        await expectPair(changed, 'Passw0rd');
      } catch (error) {
        expect(error, `byte ${index}`).toMatchObject({ code: expect.stringMatching(/^CERTIFICATE_/) });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(file.length / 37 / 2);
  });
});

describe.skipIf(!hasOpenssl)('PEM', () => {
  const pem = (...names: string[]): Buffer => Buffer.concat(names.map((name) => readFileSync(at(name))));

  it.each<[string, string[]]>([
    ['PKCS#8', ['pkcs8', '-topk8', '-nocrypt', '-in', 'rsa.key', '-out', 'pem.key']],
    ['PKCS#1', ['rsa', '-traditional', '-in', 'rsa.key', '-out', 'pem.key']],
    ['encrypted PKCS#8', ['pkcs8', '-topk8', '-in', 'rsa.key', '-out', 'pem.key', '-passout', 'pass:Päß']],
    [
      'encrypted PKCS#8 with 3DES',
      [
        'pkcs8',
        '-topk8',
        '-v1',
        'PBE-SHA1-3DES',
        '-in',
        'rsa.key',
        '-out',
        'pem.key',
        '-passout',
        'pass:Päß',
      ],
    ],
    [
      'encrypted PKCS#1',
      ['rsa', '-traditional', '-aes256', '-in', 'rsa.key', '-out', 'pem.key', '-passout', 'pass:Päß'],
    ],
  ])('%s, in either order', async (_, args) => {
    openssl(...args);
    await expectPair(pem('rsa.crt', 'pem.key'), 'Päß');
    await expectPair(pem('pem.key', 'other.crt', 'rsa.crt'), 'Päß');
    if (args.includes('pass:Päß')) {
      const wrong = openCertificate(pem('rsa.crt', 'pem.key'), 'wrong');
      await expect(wrong).rejects.toMatchObject({ code: 'CERTIFICATE_PASSWORD_WRONG' });
    }
  });

  it('as it comes out of copying: blanks, other line ends, foreign keys beside', async () => {
    const text = pem('rsa.crt', 'rsa.key').toString();
    await expectPair(Buffer.from(text.replaceAll('-----\n', '-----  \r\n')));
    openssl('pkcs8', '-topk8', '-in', 'other.key', '-out', 'foreign.key', '-passout', 'pass:unknown');
    await expectPair(pem('foreign.key', 'rsa.crt', 'rsa.key'));
    const cut = openCertificate(Buffer.from(text.replaceAll('-----END', '-----AND')));
    await expect(cut).rejects.toMatchObject({ code: 'CERTIFICATE_NOT_RECOGNIZED' });
  });

  it('one budget holds for all keys of a file', async () => {
    openssl(
      'pkcs8',
      '-topk8',
      '-in',
      'rsa.key',
      '-out',
      'slow.key',
      '-passout',
      'pass:x',
      '-iter',
      '1000000',
    );
    const many = openCertificate(pem('rsa.crt', ...Array<string>(7).fill('slow.key')), 'wrong');
    await expect(many).rejects.toMatchObject({
      code: expect.stringMatching(/^CERTIFICATE_(PASSWORD_WRONG|TOO_COSTLY)$/),
    });
  });

  it('several keys: the pair that is valid longest', async () => {
    openssl('x509', '-in', 'rsa.crt', '-signkey', 'rsa.key', '-days', '90', '-out', 'renewed.crt');
    const { certificate } = await openCertificate(pem('other.key', 'other.crt', 'rsa.key', 'renewed.crt'));
    expect(subject(certificate)).toBe('CN=rsa');
  });

  it('a certificate that was renewed for the same key: the one that is valid longest', async () => {
    openssl('x509', '-in', 'rsa.crt', '-signkey', 'rsa.key', '-days', '90', '-out', 'renewed.crt');
    const renewed = new X509Certificate(pem('renewed.crt'));
    for (const files of [
      ['rsa.crt', 'renewed.crt'],
      ['renewed.crt', 'rsa.crt'],
    ]) {
      const { certificate } = await openCertificate(pem('rsa.key', ...files));
      expect(certificate.validTo).toBe(renewed.validTo);
    }
  });
});

it('a certificate that is valid comes before one that is not yet', async () => {
  const year = 365 * 86_400_000;
  const later = { notBefore: new Date(Date.now() + year), notAfter: new Date(Date.now() + 3 * year) };
  const [now, next] = [
    await createSelfSigned({ hosts: ['now'] }),
    await createSelfSigned({ hosts: ['next'], ...later }),
  ];
  const file = Buffer.from([next.key, next.cert, now.key, now.cert].join(''));
  const nameAt = async (time?: number) => (await openCertificate(file, '', time)).certificate.subjectAltName;
  expect(await nameAt()).toBe('DNS:now');
  expect(await nameAt(Date.now() + 2 * year)).toBe('DNS:next');
});

it.each(['', 'notasecret'])(
  'an empty password opens a file of Google with the password "%s"',
  async (password) => {
    const credential = {
      ...{ kind: 'oauth2-certificate', assertion: 'google', user: 'ann@x.org', clientId: 'robot@x.org' },
      ...{ certificate: pkcs12('empty', [], password), certificatePassword: '' },
      tokenEndpoint: 'http://127.0.0.1:1/token',
    } as const;
    const provider = createAuthProvider(credentialSchema.parse(credential));
    // It was opened, and so the token was asked for.
    await expect(provider.login()).rejects.toMatchObject({ code: 'TOKEN_ENDPOINT_UNREACHABLE' });
  },
);

describe('what is no certificate file', () => {
  it.each([
    '',
    'hello',
    '{"a":1}',
    '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
    '\x30\x03\x02\x01\x03',
  ])('%j', async (content) => {
    await expect(openCertificate(Buffer.from(content, 'latin1'), 'x')).rejects.toMatchObject({
      code: expect.stringMatching(/^CERTIFICATE_(NOT_RECOGNIZED|KEY_MISSING)$/),
      phase: 'token',
    });
  });

  it('a file too large to be one', async () => {
    await expect(openCertificate(Buffer.alloc(300_000))).rejects.toMatchObject({
      code: 'CERTIFICATE_TOO_LARGE',
    });
  });

  it.each([
    ['missing.pfx', 'CERTIFICATE_NOT_FOUND'],
    ['.', 'CERTIFICATE_NOT_A_FILE'],
  ])('%s on disk: %s', async (name, code) => {
    await expect(readCertificateFile(at(name))).rejects.toMatchObject({ code, category: 'configuration' });
  });

  it('one that may not be read', async () => {
    writeFileSync(at('private.pfx'), 'x');
    chmodSync(at('private.pfx'), 0);
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      await expect(readCertificateFile(at('private.pfx'))).rejects.toMatchObject({
        code: 'CERTIFICATE_ACCESS_DENIED',
      });
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });
});

describe.skipIf(!hasOpenssl)('what the issuer would refuse', () => {
  it('dates', async () => {
    const certificate = new X509Certificate(readFileSync(at('rsa.crt')));
    const day = 86_400_000;
    expect(() => assertValidNow(certificate, Date.now())).not.toThrow();
    const thrown = (now: number): unknown => {
      try {
        return assertValidNow(certificate, now);
      } catch (error) {
        return error;
      }
    };
    expect(thrown(Date.now() - day)).toMatchObject({ code: 'CERTIFICATE_NOT_YET_VALID' });
    expect(thrown(Date.now() + 31 * day)).toMatchObject({
      code: 'CERTIFICATE_EXPIRED',
      details: { validTo: expect.any(String) },
    });
  });

  it('keys', async () => {
    for (const [pair, fits] of [
      ['rsa', true],
      ['small', false],
      ['ec', false],
    ] as const) {
      const { privateKey } = await openCertificate(pkcs12(`key-${pair}`, [], 'x', pair), 'x');
      if (fits) expect(() => assertRsaKey(privateKey)).not.toThrow();
      else
        expect(() => assertRsaKey(privateKey)).toThrowError(
          expect.objectContaining({ code: 'CERTIFICATE_KEY_UNSUITABLE' }),
        );
    }
  });
});
