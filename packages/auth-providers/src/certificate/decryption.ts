import { createDecipheriv } from 'node:crypto';
import { children, DerError, type DerNode, integer, isInteger, octets, oid } from './der.ts';
import { bmpPassword, derivePbkdf2, derivePkcs12 } from './key-derivation.ts';

/** The file is encrypted in a way this reader does not know. */
export class UnsupportedCipher extends Error {
  readonly algorithm: string;

  constructor(algorithm: string) {
    super(`algorithm ${algorithm.slice(0, 64)} is not supported`);
    this.algorithm = algorithm.slice(0, 64);
  }
}

/** The file demands more work than is reasonable; said before any of it is done. */
export class TooManyIterations extends Error {}

/** Three derivations of 600,000 iterations each are usual at the most: the MAC, the certificates, the key. */
const maxIterations = 6_000_000;

/** Adds up what a file demands, so that many small demands are no way around the limit. */
export class IterationBudget {
  #left = maxIterations;

  /** @param times how often that many iterations are made. */
  spend(node: DerNode | undefined, times = 1): number {
    const iterations = integer(node);
    this.#left -= iterations * times;
    if (iterations < 1 || this.#left < 0) throw new TooManyIterations();
    return iterations;
  }
}

const hmacs: Readonly<Record<string, string>> = {
  '1.2.840.113549.2.7': 'sha1',
  '1.2.840.113549.2.8': 'sha224',
  '1.2.840.113549.2.9': 'sha256',
  '1.2.840.113549.2.10': 'sha384',
  '1.2.840.113549.2.11': 'sha512',
};

export function hmacName(algorithm: string): string {
  const name = hmacs[algorithm];
  if (name === undefined) throw new UnsupportedCipher(algorithm);
  return name;
}

/** Ciphers of PBES2 with their key sizes. */
const ciphers: Readonly<Record<string, readonly [name: string, keyBytes: number]>> = {
  '2.16.840.1.101.3.4.1.2': ['aes-128-cbc', 16],
  '2.16.840.1.101.3.4.1.22': ['aes-192-cbc', 24],
  '2.16.840.1.101.3.4.1.42': ['aes-256-cbc', 32],
  '1.2.840.113549.3.7': ['des-ede3-cbc', 24],
};

interface LegacyScheme {
  readonly cipher: 'des-ede3-cbc' | 'rc2';
  readonly keyBytes: number;
  /** Two keys stand for three, the first one twice. */
  readonly twoKeys?: boolean;
}

/** Password-based encryption of RFC 7292 appendix C. RC4 and RC2-128 were hardly ever written and stay out. */
const legacySchemes: Readonly<Record<string, LegacyScheme>> = {
  '1.2.840.113549.1.12.1.3': { cipher: 'des-ede3-cbc', keyBytes: 24 },
  '1.2.840.113549.1.12.1.4': { cipher: 'des-ede3-cbc', keyBytes: 16, twoKeys: true },
  '1.2.840.113549.1.12.1.6': { cipher: 'rc2', keyBytes: 5 },
};

const sha1Bytes = 20;

function decipher(name: string, key: Buffer, iv: Buffer, data: Buffer): Buffer {
  const cipher = createDecipheriv(name, key, iv);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

/** RC2 with 40 bits, which OpenSSL 3 and so Node have dropped; loaded only when such a file turns up. */
async function decipherRc2(key: Buffer, iv: Buffer, data: Buffer): Promise<Buffer> {
  const { default: forge } = await import('node-forge');
  const cipher = forge.rc2.createDecryptionCipher(key.toString('latin1'), key.length * 8);
  cipher.start(iv.toString('latin1'));
  cipher.update(forge.util.createBuffer(data.toString('latin1')));
  if (!cipher.finish()) throw new Error('bad decrypt');
  return Buffer.from(cipher.output.getBytes(), 'latin1');
}

interface Pbkdf2Parameters {
  readonly salt: Buffer;
  readonly iterations: number;
  readonly algorithm: string;
}

/** The parameters of PBKDF2 (RFC 8018 appendix A.2). */
export function readPbkdf2(node: DerNode | undefined, budget: IterationBudget): Pbkdf2Parameters {
  const [kdf, parameters] = children(node);
  if (oid(kdf) !== '1.2.840.113549.1.5.12') throw new UnsupportedCipher(oid(kdf));
  const [salt, iterations, ...rest] = children(parameters);
  const prf = rest.find((one) => !isInteger(one));
  return {
    salt: octets(salt),
    iterations: budget.spend(iterations),
    algorithm: prf ? hmacName(oid(children(prf)[0])) : 'sha1',
  };
}

async function decryptPbes2(
  parameters: DerNode | undefined,
  data: Buffer,
  password: string,
  budget: IterationBudget,
): Promise<Buffer> {
  const [kdf, scheme] = children(parameters);
  const [schemeId, iv] = children(scheme);
  const cipher = ciphers[oid(schemeId)];
  if (!cipher) throw new UnsupportedCipher(oid(schemeId));
  const { salt, iterations, algorithm } = readPbkdf2(kdf, budget);
  const [name, keyBytes] = cipher;
  const key = await derivePbkdf2(algorithm, Buffer.from(password, 'utf8'), salt, iterations, keyBytes);
  return decipher(name, key, octets(iv), data);
}

/**
 * Decrypts what an AlgorithmIdentifier of password-based encryption describes: PBES2 (RFC 8018) or the schemes of
 * PKCS#12. A wrong password shows as an error of the cipher's padding.
 */
export async function decrypt(
  algorithm: DerNode | undefined,
  data: Buffer,
  password: string,
  budget: IterationBudget,
): Promise<Buffer> {
  const [id, parameters] = children(algorithm);
  if (oid(id) === '1.2.840.113549.1.5.13') return decryptPbes2(parameters, data, password, budget);
  const scheme = legacySchemes[oid(id)];
  if (!scheme) throw new UnsupportedCipher(oid(id));
  const [salt, rounds] = children(parameters);
  const iterations = budget.spend(rounds, Math.ceil(scheme.keyBytes / sha1Bytes) + 1);
  const derive = (purpose: 1 | 2, size: number): Promise<Buffer> =>
    derivePkcs12('sha1', bmpPassword(password), octets(salt), iterations, purpose, size);
  const key = await derive(1, scheme.keyBytes);
  const iv = await derive(2, 8);
  if (scheme.cipher === 'rc2') return decipherRc2(key, iv, data);
  return decipher(scheme.cipher, scheme.twoKeys ? Buffer.concat([key, key.subarray(0, 8)]) : key, iv, data);
}

/** The clear PKCS#8 key in an EncryptedPrivateKeyInfo (RFC 5958 section 3). */
export async function decryptPrivateKey(
  node: DerNode | undefined,
  password: string,
  budget: IterationBudget,
): Promise<Buffer> {
  const [algorithm, data] = children(node);
  if (!data) throw new DerError('the encrypted key is missing');
  return decrypt(algorithm, octets(data), password, budget);
}
