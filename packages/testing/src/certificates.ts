// @peculiar/x509 expects its host to bring this polyfill, and to load it first.
import 'reflect-metadata';
import type { webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** A certificate with its private key, both in PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** What a certificate says of whom it is for, and when. */
export interface CertificateOptions {
  /** Host names and addresses it is for. Default `localhost`, `127.0.0.1` and `::1`. */
  readonly hosts?: readonly string[];
  /** Default an hour ago. */
  readonly notBefore?: Date;
  /** Default in a day. */
  readonly notAfter?: Date;
  /** What it is good for (RFC 5280 section 4.2.1.12). Default anything. */
  readonly purpose?: 'server' | 'client';
  /** Of one that vouches for itself: elliptic curve P-256, which is the default, or RSA with 2048 bits. */
  readonly keys?: 'ec' | 'rsa';
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const rsa = {
  ...{ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  ...{ modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) },
};
const purposes = { server: ExtendedKeyUsage.serverAuth, client: ExtendedKeyUsage.clientAuth };
const hour = 3_600_000;

async function generateKeys(
  kind: CertificateOptions['keys'] = 'ec',
): Promise<{ keys: webcrypto.CryptoKeyPair; key: string }> {
  const keys = await crypto.subtle.generateKey(kind === 'rsa' ? rsa : algorithm, true, ['sign', 'verify']);
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const lines = der.match(/.{1,64}/g) ?? [];
  return { keys, key: ['-----BEGIN PRIVATE KEY-----', ...lines, '-----END PRIVATE KEY-----', ''].join('\n') };
}

function leafParameters({
  hosts = ['localhost', '127.0.0.1', '::1'],
  notBefore,
  notAfter,
  purpose,
}: CertificateOptions) {
  const names = hosts.map((value) => ({ type: isIP(value) > 0 ? ('ip' as const) : ('dns' as const), value }));
  return {
    notBefore: notBefore ?? new Date(Date.now() - hour),
    notAfter: notAfter ?? new Date(Date.now() + 24 * hour),
    signingAlgorithm: algorithm,
    extensions: [
      new BasicConstraintsExtension(false),
      new SubjectAlternativeNameExtension(names),
      ...(purpose ? [new ExtendedKeyUsageExtension([purposes[purpose]])] : []),
    ],
  };
}

/** A certificate that vouches for itself, as nobody else does. */
export async function createSelfSigned(options: CertificateOptions = {}): Promise<KeyPair> {
  const { keys, key } = await generateKeys(options.keys);
  const name = `CN=${options.hosts?.[0] ?? 'localhost'}`;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    ...leafParameters(options),
    ...(options.keys === 'rsa' && { signingAlgorithm: rsa }),
    name,
    keys,
  });
  return { cert: certificate.toString('pem'), key };
}

/** A certificate authority made for one test run. Hand {@link CertificateAuthority.cert} to the client as its CA. */
export class CertificateAuthority {
  /** The authority's own certificate, in PEM. */
  readonly cert: string;
  readonly #name: string;
  readonly #privateKey: webcrypto.CryptoKey;

  private constructor(cert: string, name: string, privateKey: webcrypto.CryptoKey) {
    this.cert = cert;
    this.#name = name;
    this.#privateKey = privateKey;
  }

  static async create(): Promise<CertificateAuthority> {
    const { keys } = await generateKeys();
    const name = `CN=Test Authority ${crypto.randomUUID()}`;
    const certificate = await X509CertificateGenerator.createSelfSigned({
      name,
      keys,
      notBefore: new Date(Date.now() - 1_000 * hour),
      notAfter: new Date(Date.now() + 1_000 * hour),
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign),
      ],
    });
    return new CertificateAuthority(certificate.toString('pem'), name, keys.privateKey);
  }

  async issue(options: CertificateOptions = {}): Promise<KeyPair> {
    const { keys, key } = await generateKeys();
    const certificate = await X509CertificateGenerator.create({
      ...leafParameters(options),
      subject: `CN=${options.hosts?.[0] ?? 'localhost'}`,
      issuer: this.#name,
      publicKey: keys.publicKey,
      signingKey: this.#privateKey,
    });
    return { cert: certificate.toString('pem'), key };
  }
}

/** One of each certificate a client must be able to tell apart. */
export interface TestCertificates {
  readonly authority: CertificateAuthority;
  readonly valid: KeyPair;
  readonly expired: KeyPair;
  readonly notYetValid: KeyPair;
  readonly wrongHost: KeyPair;
  readonly selfSigned: KeyPair;
}

/**
 * An authority, and a certificate of each kind that tests need.
 *
 * @param hosts whom they are for. Default `localhost`, `127.0.0.1` and `::1`.
 */
export async function createTestCertificates(hosts?: readonly string[]): Promise<TestCertificates> {
  const authority = await CertificateAuthority.create();
  const forHosts = hosts ? { hosts } : {};
  const past = { notBefore: new Date(Date.now() - 48 * hour), notAfter: new Date(Date.now() - 24 * hour) };
  const future = { notBefore: new Date(Date.now() + 24 * hour), notAfter: new Date(Date.now() + 48 * hour) };
  const [valid, expired, notYetValid, wrongHost, selfSigned] = await Promise.all([
    authority.issue(forHosts),
    authority.issue({ ...forHosts, ...past }),
    authority.issue({ ...forHosts, ...future }),
    authority.issue({ hosts: ['other.example'] }),
    createSelfSigned(forHosts),
  ]);
  return { authority, valid, expired, notYetValid, wrongHost, selfSigned };
}
