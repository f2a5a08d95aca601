import type { TLSSocket } from 'node:tls';

/** What there is to say about a server's certificate. */
export interface CertificateDetails {
  readonly subject: string;
  readonly issuer: string;
  readonly names: readonly string[];
  readonly validTo: string;
  readonly daysLeft: number;
  /** SHA-256, in hexadecimal without colons: what `tlsOptions.fingerprints` takes. */
  readonly fingerprint: string;
}

const first = (value: string | string[] | undefined): string => [value ?? []].flat()[0] ?? '';

/** The names a certificate is for, as Node has them: `DNS:a.example, IP Address:192.0.2.1`. */
export const namesOf = (subjectaltname = ''): string[] =>
  subjectaltname
    .split(', ')
    .map((name) => name.replace(/^(?:DNS|IP Address):/, ''))
    .filter((name) => name !== '');

export function describeCertificate(socket: TLSSocket): CertificateDetails {
  const { subject, issuer, subjectaltname, valid_to, fingerprint256 = '' } = socket.getPeerCertificate();
  return {
    subject: first(subject?.CN) || first(subject?.O) || 'nobody',
    issuer: first(issuer?.O) || first(issuer?.CN) || 'nobody',
    names: namesOf(subjectaltname),
    validTo: valid_to,
    daysLeft: Math.floor((Date.parse(valid_to) - Date.now()) / 86_400_000),
    fingerprint: fingerprint256.replaceAll(':', '').toLowerCase(),
  };
}

/** Programs and devices that open encrypted connections, as they call themselves in the certificates they make. */
const interceptors =
  /avast|avg |bitdefender|eset|kaspersky|norton|mcafee|sophos|trend micro|fortinet|fortigate|zscaler|netskope|palo alto|blue ?coat|symantec web|cisco umbrella|forcepoint|checkpoint|barracuda|mitmproxy|fiddler|charles proxy/i;

/** Who stands in between, when an issuer is known for that. */
export function interceptor(issuer: string): string | undefined {
  return interceptors.test(issuer) ? issuer : undefined;
}
