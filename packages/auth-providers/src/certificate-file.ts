import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import {
  type ErrorCode,
  type ErrorDetails,
  MailError,
  NoSuitableFile,
  readRegularFile,
} from '@flowpost/core';
import {
  decryptPrivateKey,
  IterationBudget,
  TooManyIterations,
  UnsupportedCipher,
} from './certificate/decryption.ts';
import { DerError, parseDer } from './certificate/der.ts';
import { readPkcs12, WrongPassword } from './certificate/pkcs12.ts';

/** A certificate with the private key that belongs to it. */
export interface CertificateAndKey {
  readonly certificate: X509Certificate;
  readonly privateKey: KeyObject;
  /** The other certificates of the file. */
  readonly chain: readonly X509Certificate[];
}

/** Room for a long chain. What is parsed as DER costs more, and is never that long. */
const maxFileBytes = 256 * 1024;
const maxDerBytes = 64 * 1024;

function certificateError(
  code: ErrorCode,
  message: string,
  details: ErrorDetails = {},
  cause?: unknown,
): MailError {
  return new MailError(code, message, { phase: 'token', details, cause });
}

/**
 * Reads a certificate file from disk.
 *
 * @throws MailError `CERTIFICATE_NOT_FOUND`, `_NOT_A_FILE`, `_ACCESS_DENIED`, `_TOO_LARGE` or `_UNREADABLE`.
 */
export async function readCertificateFile(path: string): Promise<Buffer> {
  const codes: Readonly<Record<string, ErrorCode>> = {
    ENOENT: 'CERTIFICATE_NOT_FOUND',
    ENOTDIR: 'CERTIFICATE_NOT_FOUND',
    EACCES: 'CERTIFICATE_ACCESS_DENIED',
    EPERM: 'CERTIFICATE_ACCESS_DENIED',
  };
  try {
    return await readRegularFile(path, maxFileBytes);
  } catch (cause) {
    if (cause instanceof NoSuitableFile) {
      if (cause.code === 'EFBIG') throw tooLarge(cause.sizeBytes, maxFileBytes);
      throw certificateError('CERTIFICATE_NOT_A_FILE', `${path} is not a regular file.`, { path });
    }
    const reason = (cause as NodeJS.ErrnoException).code ?? 'UNKNOWN';
    const code = codes[reason] ?? 'CERTIFICATE_UNREADABLE';
    throw certificateError(
      code,
      `The certificate file ${path} cannot be read (${reason}).`,
      { path, reason },
      cause,
    );
  }
}

function tooLarge(sizeBytes: number, limitBytes: number): MailError {
  const message = `The certificate file has ${sizeBytes} bytes; ${limitBytes} are allowed.`;
  return certificateError('CERTIFICATE_TOO_LARGE', message, { sizeBytes, limitBytes });
}

function assertSize(size: number): void {
  if (size > maxFileBytes) throw tooLarge(size, maxFileBytes);
}

/** Tells a file from a later one in its place. */
export async function certificateFileVersion(path: string): Promise<string> {
  const { mtimeMs, size, ino } = await stat(path);
  return `${mtimeMs} ${size} ${ino}`;
}

/** Which error a failure of the readers is. Their own texts are not repeated: they may show what was in the file. */
function readFailure(cause: unknown, password: string): MailError {
  if (cause instanceof MailError) return cause;
  if (cause instanceof WrongPassword && password === '') {
    const message = 'The certificate file is encrypted, and no password is given for it.';
    const hint = 'Give the password of the file as certificatePassword.';
    return new MailError('CERTIFICATE_PASSWORD_WRONG', message, { phase: 'token', hint });
  }
  if (cause instanceof WrongPassword) {
    return certificateError('CERTIFICATE_PASSWORD_WRONG', 'The password does not open the certificate file.');
  }
  if (cause instanceof UnsupportedCipher) {
    const { algorithm } = cause;
    const message = `The certificate file is encrypted with an algorithm that is not supported (${algorithm}).`;
    return certificateError('CERTIFICATE_CIPHER_UNSUPPORTED', message, { algorithm });
  }
  if (cause instanceof TooManyIterations) {
    return certificateError(
      'CERTIFICATE_TOO_COSTLY',
      'The certificate file demands too many iterations of key derivation.',
    );
  }
  return certificateError(
    'CERTIFICATE_NOT_RECOGNIZED',
    'This is neither a PKCS#12 nor a PEM file, or it is damaged.',
  );
}

const pemBlock = /-----BEGIN ([A-Z0-9 ]+)-----[ \t]*(?:\r\n?|\n)((?:(?!-----)[\s\S])+)-----END \1-----/g;

async function readPemKey(
  label: string,
  block: string,
  base64: string,
  password: string,
  budget: IterationBudget,
): Promise<KeyObject> {
  if (label === 'ENCRYPTED PRIVATE KEY') {
    // Not left to createPrivateKey, which would block while it derives the key.
    const der = await decryptPrivateKey(parseDer(Buffer.from(base64, 'base64')), password, budget).catch(
      (error) => {
        throw error instanceof UnsupportedCipher || error instanceof TooManyIterations
          ? error
          : new WrongPassword();
      },
    );
    return pkcs8Key(der);
  }
  const encrypted = /^Proc-Type: 4,ENCRYPTED/m.test(base64);
  try {
    return createPrivateKey({ key: block, ...(encrypted && { passphrase: password }) });
  } catch {
    throw encrypted ? new WrongPassword() : new DerError('a damaged private key');
  }
}

function pkcs8Key(der: Buffer): KeyObject {
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } catch {
    // Decrypted with the wrong password, a key can look like padding that fits.
    throw new WrongPassword();
  }
}

interface Parts {
  readonly keys: readonly KeyObject[];
  readonly certificates: readonly X509Certificate[];
  /** Why a key could not be opened; of no account when another one fits. */
  readonly failure?: unknown;
}

async function readPem(text: string, password: string): Promise<Parts> {
  const keys: KeyObject[] = [];
  const certificates: X509Certificate[] = [];
  const budget = new IterationBudget();
  let failure: unknown;
  let blocks = 0;
  for (const [block, label = '', base64 = ''] of text.matchAll(pemBlock)) {
    blocks++;
    if (label === 'CERTIFICATE') certificates.push(new X509Certificate(block));
    if (!label.endsWith('PRIVATE KEY')) continue;
    try {
      keys.push(await readPemKey(label, block, base64, password, budget));
    } catch (error) {
      failure ??= error;
    }
  }
  if (blocks === 0) throw new DerError('no whole PEM block');
  return { keys, certificates, failure };
}

async function readAny(file: Uint8Array, password: string): Promise<Parts> {
  const text = Buffer.from(file.buffer, file.byteOffset, file.byteLength).toString('latin1');
  if (text.includes('-----BEGIN ')) return readPem(text, password);
  if (file.length > maxDerBytes) throw tooLarge(file.length, maxDerBytes);
  const { keys, certificates } = await readPkcs12(file, password);
  return { keys: keys.map(pkcs8Key), certificates: certificates.map((der) => new X509Certificate(der)) };
}

/**
 * Opens a certificate file: PKCS#12 (.pfx, .p12) or PEM with certificate and key, encrypted or not. Key and
 * certificate are paired by the public key, not by their order.
 *
 * @throws MailError `CERTIFICATE_NOT_RECOGNIZED`, `_PASSWORD_WRONG`, `_KEY_MISSING`, `_CIPHER_UNSUPPORTED`,
 * `_TOO_COSTLY` or `_TOO_LARGE`.
 */
export async function openCertificate(
  file: Uint8Array,
  password = '',
  now = Date.now(),
): Promise<CertificateAndKey> {
  assertSize(file.length);
  const { keys, certificates, failure } = await readAny(file, password).catch((cause) => {
    throw readFailure(cause, password);
  });
  const pairs = keys.flatMap((privateKey) => {
    const fitting = certificates.filter((one) => one.checkPrivateKey(privateKey));
    return fitting.map((certificate) => ({ privateKey, certificate }));
  });
  // Of several, one that is valid, and of those the one that is so longest: after a renewal both may be in the file.
  const isNotYet = ({ certificate }: { certificate: X509Certificate }): number =>
    certificate.validFromDate.getTime() > now ? 1 : 0;
  const [best] = pairs.toSorted(
    (a, b) =>
      isNotYet(a) - isNotYet(b) || b.certificate.validToDate.getTime() - a.certificate.validToDate.getTime(),
  );
  if (!best) {
    if (failure) throw readFailure(failure, password);
    const found = { keys: keys.length, certificates: certificates.length };
    if (certificates.length === 0 && keys.length > 0)
      throw new MailError(
        'CERTIFICATE_NOT_RECOGNIZED',
        'The certificate file holds a key and no certificate.',
        {
          phase: 'token',
          hint: 'Put the certificate into the file as well: behind the key in a PEM file, or export it again with both.',
          details: found,
        },
      );
    const message =
      keys.length === 0
        ? 'The certificate file holds no private key.'
        : 'The private key in the certificate file fits none of its certificates.';
    throw certificateError('CERTIFICATE_KEY_MISSING', message, found);
  }
  return { ...best, chain: certificates.filter((one) => one !== best.certificate) };
}

/** @throws MailError `CERTIFICATE_NOT_YET_VALID`, `CERTIFICATE_EXPIRED`, or `CERTIFICATE_NOT_RECOGNIZED` for dates that are none. */
export function assertValidNow(certificate: X509Certificate, now: number): void {
  const { validFrom, validTo } = certificate;
  const [from, to] = [certificate.validFromDate.getTime(), certificate.validToDate.getTime()];
  const dates = { validFrom, validTo };
  if (Number.isNaN(from + to)) {
    throw certificateError(
      'CERTIFICATE_NOT_RECOGNIZED',
      'The dates of the certificate cannot be read.',
      dates,
    );
  }
  if (now < from) {
    throw certificateError(
      'CERTIFICATE_NOT_YET_VALID',
      `The certificate is valid only from ${validFrom}.`,
      dates,
    );
  }
  if (now > to)
    throw certificateError('CERTIFICATE_EXPIRED', `The certificate expired on ${validTo}.`, dates);
}

/** @throws MailError `CERTIFICATE_KEY_UNSUITABLE` for anything but RSA with 2048 to 8192 bits. */
export function assertRsaKey(key: KeyObject): void {
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  // Signing takes time with the third power of the size, and everybody else waits for it.
  if (key.asymmetricKeyType === 'rsa' && bits >= 2048 && bits <= 8192) return;
  const message = `The issuer takes RSA keys of 2048 to 8192 bits; this one is ${key.asymmetricKeyType}${bits > 0 ? ` with ${bits} bits` : ''}.`;
  throw certificateError('CERTIFICATE_KEY_UNSUITABLE', message, { keyType: key.asymmetricKeyType, bits });
}
