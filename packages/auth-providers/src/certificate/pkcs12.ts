import { createHmac, timingSafeEqual } from 'node:crypto';
import {
  decrypt,
  decryptPrivateKey,
  hmacName,
  IterationBudget,
  readPbkdf2,
  TooManyIterations,
  UnsupportedCipher,
} from './decryption.ts';
import { children, DerError, type DerNode, encoded, integer, octets, oid, parseDer } from './der.ts';
import { bmpPassword, derivePbkdf2, derivePkcs12 } from './key-derivation.ts';

/** The password does not open the file. */
export class WrongPassword extends Error {}

/** What a PKCS#12 file holds, each in DER. */
export interface Pkcs12Content {
  /** PKCS#8 private keys. */
  readonly keys: readonly Buffer[];
  /** X.509 certificates. */
  readonly certificates: readonly Buffer[];
}

const data = '1.2.840.113549.1.7.1';
const encryptedData = '1.2.840.113549.1.7.6';
const bag = {
  key: '1.2.840.113549.1.12.10.1.1',
  shroudedKey: '1.2.840.113549.1.12.10.1.2',
  certificate: '1.2.840.113549.1.12.10.1.3',
  nested: '1.2.840.113549.1.12.10.1.6',
};
const x509Certificate = '1.2.840.113549.1.9.22.1';
const pbmac1 = '1.2.840.113549.1.5.14';
const digests: Readonly<Record<string, readonly [name: string, bytes: number]>> = {
  '1.3.14.3.2.26': ['sha1', 20],
  '2.16.840.1.101.3.4.2.4': ['sha224', 28],
  '2.16.840.1.101.3.4.2.1': ['sha256', 32],
  '2.16.840.1.101.3.4.2.2': ['sha384', 48],
  '2.16.840.1.101.3.4.2.3': ['sha512', 64],
};

/** Checks the MAC over the content (RFC 7292 section 4, and RFC 9579 for PBMAC1): right password, nothing changed. */
async function checkMac(
  macData: DerNode,
  content: Buffer,
  password: string,
  budget: IterationBudget,
): Promise<void> {
  const [digestInfo, salt, rounds] = children(macData);
  const [algorithm, expected] = children(digestInfo);
  const [id, parameters] = children(algorithm);
  const matches = (name: string, key: Buffer): boolean => {
    const actual = createHmac(name, key).update(content).digest();
    const wanted = octets(expected);
    return actual.length === wanted.length && timingSafeEqual(actual, wanted);
  };
  if (oid(id) === pbmac1) {
    const [kdf, scheme] = children(parameters);
    const { salt: macSalt, iterations, algorithm: prf } = readPbkdf2(kdf, budget);
    const name = hmacName(oid(children(scheme)[0]));
    const size = integer(children(children(kdf)[1])[2]);
    if (size < 1 || size > 64) throw new DerError('a MAC key of an impossible size');
    const key = await derivePbkdf2(prf, Buffer.from(password, 'utf8'), macSalt, iterations, size);
    if (!matches(name, key)) throw new WrongPassword();
    return;
  }
  const digest = digests[oid(id)];
  if (!digest) throw new UnsupportedCipher(oid(id));
  const [name, size] = digest;
  const iterations = rounds ? budget.spend(rounds, password === '' ? 2 : 1) : 1;
  const derive = (bytes: Buffer): Promise<Buffer> =>
    derivePkcs12(name, bytes, octets(salt), iterations, 3, size);
  if (matches(name, await derive(bmpPassword(password)))) return;
  // An empty password was also written as no password at all.
  if (password === '' && matches(name, await derive(Buffer.alloc(0)))) return;
  throw new WrongPassword();
}

async function readContentInfo(info: DerNode, password: string, budget: IterationBudget): Promise<Buffer> {
  const [type, tagged] = children(info);
  const [content] = children(tagged);
  if (oid(type) === data) return octets(content);
  if (oid(type) !== encryptedData) throw new UnsupportedCipher(oid(type));
  const [, encryptedContent] = children(content);
  const [, algorithm, cipherText] = children(encryptedContent);
  return decrypt(algorithm, octets(cipherText), password, budget);
}

interface Found {
  readonly keys: Buffer[];
  readonly certificates: Buffer[];
}

async function readBags(
  safe: DerNode,
  password: string,
  budget: IterationBudget,
  found: Found,
): Promise<void> {
  for (const one of children(safe)) {
    const [id, tagged] = children(one);
    const [value] = children(tagged);
    const type = oid(id);
    if (type === bag.key) found.keys.push(encoded(value));
    else if (type === bag.shroudedKey) found.keys.push(await decryptPrivateKey(value, password, budget));
    else if (type === bag.nested && value) await readBags(value, password, budget, found);
    else if (type === bag.certificate) {
      const [kind, content] = children(value);
      if (oid(kind) === x509Certificate) found.certificates.push(octets(children(content)[0]));
    }
  }
}

/**
 * Opens a PKCS#12 file (RFC 7292). No single kept library opens what is in the field: pkijs knows no PKCS#12 schemes
 * at all, node-forge fails on non-ASCII passwords with PBES2 and blocks for seconds on many iterations, and Node can use
 * such a file for TLS but not give its key away. So asn1js reads the structure, Node's crypto does the work, and
 * node-forge lends the one cipher Node has dropped.
 *
 * @throws DerError, WrongPassword, UnsupportedCipher, TooManyIterations.
 */
export async function readPkcs12(file: Uint8Array, password: string): Promise<Pkcs12Content> {
  const [version, authSafe, macData] = children(parseDer(file));
  if (integer(version) !== 3 || !authSafe) throw new DerError('not PKCS#12 version 3');
  const [type, tagged] = children(authSafe);
  if (oid(type) !== data) throw new UnsupportedCipher(oid(type));
  const content = octets(children(tagged)[0]);
  const budget = new IterationBudget();
  if (macData) await checkMac(macData, content, password, budget);
  const found: Found = { keys: [], certificates: [] };
  try {
    for (const info of children(parseDer(content))) {
      await readBags(parseDer(await readContentInfo(info, password, budget)), password, budget, found);
    }
  } catch (error) {
    // Without a MAC a wrong password shows only here, as padding or structure that makes no sense.
    if (macData || error instanceof UnsupportedCipher || error instanceof TooManyIterations) throw error;
    throw new WrongPassword();
  }
  return found;
}
