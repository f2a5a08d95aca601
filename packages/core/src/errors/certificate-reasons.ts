import type { ErrorCode } from './error-codes.ts';

/**
 * What is wrong with a server's certificate, by the code that Node gives the failure.
 *
 * @see https://nodejs.org/api/tls.html#x509-certificate-error-codes
 */
export const certificateReasons: Readonly<Record<string, ErrorCode>> = {
  CERT_HAS_EXPIRED: 'TLS_CERTIFICATE_EXPIRED',
  CERT_NOT_YET_VALID: 'TLS_CERTIFICATE_NOT_YET_VALID',
  CERT_REVOKED: 'TLS_CERTIFICATE_REVOKED',
  ERR_TLS_CERT_ALTNAME_INVALID: 'TLS_CERTIFICATE_WRONG_HOST',
  HOSTNAME_MISMATCH: 'TLS_CERTIFICATE_WRONG_HOST',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'TLS_CERTIFICATE_UNTRUSTED',
  SELF_SIGNED_CERT_IN_CHAIN: 'TLS_CERTIFICATE_UNTRUSTED',
  UNABLE_TO_GET_ISSUER_CERT: 'TLS_CERTIFICATE_UNTRUSTED',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'TLS_CERTIFICATE_UNTRUSTED',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'TLS_CERTIFICATE_UNTRUSTED',
  CERT_UNTRUSTED: 'TLS_CERTIFICATE_UNTRUSTED',
  CERT_REJECTED: 'TLS_CERTIFICATE_UNTRUSTED',
  INVALID_CA: 'TLS_CERTIFICATE_UNTRUSTED',
  PATH_LENGTH_EXCEEDED: 'TLS_CERTIFICATE_UNTRUSTED',
  INVALID_PURPOSE: 'TLS_CERTIFICATE_UNTRUSTED',
};

/** Whether Node says with a code that it does not accept a certificate. There are more of those than reasons worth telling apart. */
export const isCertificateReason = (reason: string): boolean =>
  Object.hasOwn(certificateReasons, reason) ||
  /^(?:CERT_|ERR_TLS_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|UNSPECIFIED$)/.test(reason);

/** What to do about it where the server is asked over https, for which a connection has no settings of TLS. */
export const httpsCertificateHints: Partial<Readonly<Record<ErrorCode, string>>> = {
  TLS_CERTIFICATE_UNTRUSTED:
    "No trusted authority vouches for the server's certificate. For a private authority, or a proxy that inspects TLS, set NODE_EXTRA_CA_CERTS to a file with its certificate (PEM) and start the program again.",
  TLS_CERTIFICATE_WRONG_HOST:
    'The certificate belongs to another host name. Correct the host in the URL, or find out what answers in its place.',
};
