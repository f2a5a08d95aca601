import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { type ErrorCode, type ErrorDetails, MailError } from '@flowpost/core';
import { decryptPrivateKey, TooManyIterations, UnsupportedCipher } from './certificate/decryption.ts';
import { DerError, parseDer } from './certificate/der.ts';
import { readPkcs12, WrongPassword } from './certificate/pkcs12.ts';

/** A certificate with the private key that belongs to it. */
export interface CertificateAndKey {
  readonly certificate: X509Certificate;
  readonly privateKey: KeyObject;
  /** The other certificates of the file. */
  readonly chain: readonly X509Certificate[];
}

const maxFileBytes = 256 * 1024;

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
    await using handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = await handle.stat();
    if (!stats.isFile())
      throw certificateError('CERTIFICATE_NOT_A_FILE', `${path} is not a regular file.`, { path });
    assertSize(stats.size);
    return await handle.readFile();
  } catch (cause) {
    if (cause instanceof MailError) throw cause;
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

function assertSize(size: number): void {
  if (size <= maxFileBytes) return;
  throw certificateError(
    'CERTIFICATE_TOO_LARGE',
    `The certificate file has ${size} bytes; ${maxFileBytes} are allowed.`,
    {
      sizeBytes: size,
      limitBytes: maxFileBytes,
    },
  );
}

/** Which error a failure of the readers is. Their own texts are not repeated: they may show what was in the file. */
function readFailure(cause: unknown): MailError {
  if (cause instanceof MailError) return cause;
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

const pemBlock = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n((?:(?!-----)[\s\S])+)-----END \1-----/g;

async function readPemKey(
  label: string,
  block: string,
  base64: string,
  password: string,
): Promise<KeyObject> {
  if (label === 'ENCRYPTED PRIVATE KEY') {
    // Not left to createPrivateKey, which would block while it derives the key.
    const der = await decryptPrivateKey(parseDer(Buffer.from(base64, 'base64')), password).catch((error) => {
      throw error instanceof UnsupportedCipher || error instanceof TooManyIterations
        ? error
        : new WrongPassword();
    });
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

async function readPem(text: string, password: string) {
  const keys: KeyObject[] = [];
  const certificates: X509Certificate[] = [];
  for (const [block, label = '', base64 = ''] of text.matchAll(pemBlock)) {
    if (label === 'CERTIFICATE') certificates.push(new X509Certificate(block));
    else if (label.endsWith('PRIVATE KEY')) keys.push(await readPemKey(label, block, base64, password));
  }
  return { keys, certificates };
}

async function readAny(file: Uint8Array, password: string) {
  const text = Buffer.from(file.buffer, file.byteOffset, file.byteLength).toString('latin1');
  if (text.includes('-----BEGIN ')) return readPem(text, password);
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
export async function openCertificate(file: Uint8Array, password = ''): Promise<CertificateAndKey> {
  assertSize(file.length);
  const { keys, certificates } = await readAny(file, password).catch((cause) => {
    throw readFailure(cause);
  });
  const pairs = keys.flatMap((privateKey) => {
    const certificate = certificates.find((one) => one.checkPrivateKey(privateKey));
    return certificate ? [{ privateKey, certificate }] : [];
  });
  // Of several, the one that is valid longest: after a renewal both may be in the file.
  const [best] = pairs.toSorted(
    (a, b) => b.certificate.validToDate.getTime() - a.certificate.validToDate.getTime(),
  );
  if (!best) {
    const message =
      keys.length === 0
        ? 'The certificate file holds no private key.'
        : 'The private key in the certificate file fits none of its certificates.';
    throw certificateError('CERTIFICATE_KEY_MISSING', message, {
      keys: keys.length,
      certificates: certificates.length,
    });
  }
  return { ...best, chain: certificates.filter((one) => one !== best.certificate) };
}

/** @throws MailError `CERTIFICATE_NOT_YET_VALID` or `CERTIFICATE_EXPIRED`. */
export function assertValidNow({ validFromDate, validToDate }: X509Certificate, now: number): void {
  const dates = { validFrom: validFromDate.toISOString(), validTo: validToDate.toISOString() };
  if (now < validFromDate.getTime()) {
    throw certificateError(
      'CERTIFICATE_NOT_YET_VALID',
      `The certificate is valid only from ${dates.validFrom}.`,
      dates,
    );
  }
  if (now > validToDate.getTime()) {
    throw certificateError('CERTIFICATE_EXPIRED', `The certificate expired on ${dates.validTo}.`, dates);
  }
}

/** @throws MailError `CERTIFICATE_KEY_UNSUITABLE` for anything but RSA with at least 2048 bits. */
export function assertRsaKey(key: KeyObject): void {
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType === 'rsa' && bits >= 2048) return;
  const message = `The issuer takes RSA keys of 2048 bits or more; this one is ${key.asymmetricKeyType}${bits > 0 ? ` with ${bits} bits` : ''}.`;
  throw certificateError('CERTIFICATE_KEY_UNSUITABLE', message, { keyType: key.asymmetricKeyType, bits });
}
