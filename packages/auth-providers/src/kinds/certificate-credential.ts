import { createHash, type X509Certificate } from 'node:crypto';
import { type CredentialOf, revealSecret, systemClock } from '@flowpost/core';
import type { AuthProviderOptions, CredentialExpiry } from '../auth-provider.ts';
import { incomplete, revealer } from '../token-provider.ts';

export type CertificateCredential = CredentialOf<'oauth2-certificate'>;

/** Reading certificates takes a parser, which those without one need not load. */
export const loadFiles = () => import('../certificate-file.ts');

/** A certificate's file and whatever else of the credential may be encrypted, opened. */
export async function readCredential(credential: CertificateCredential, options: AuthProviderOptions) {
  const { secretBox, clock = systemClock } = options;
  const { certificateFileVersion, readCertificateFile } = await loadFiles();
  const reveal = revealer(secretBox);
  const { certificate, certificatePassword } = credential;
  const path = await reveal(credential.certificateFile);
  const file = certificate?.reveal() ?? (path === undefined ? undefined : await readCertificateFile(path));
  if (!file) throw incomplete('certificate', 'certificateFile');
  const versionOf = (): Promise<string> | undefined =>
    certificate || path === undefined ? undefined : certificateFileVersion(path).catch(() => 'unreadable');
  const version = await versionOf();
  return {
    // A file that has gone is still good for what was read from it.
    isCurrent: async () => [version, 'unreadable'].includes(await versionOf()),
    file,
    fileHash: createHash('sha256').update(file).digest('base64url'),
    password: certificatePassword && (await revealSecret(certificatePassword, secretBox)),
    user: (await reveal(credential.user)) ?? '',
    clientId: await reveal(credential.clientId),
    tenantId: await reveal(credential.tenantId),
    clock,
  };
}

/** Whether a certificate has not ended. The file may hold the next one, with another key, before this one has. */
export const hasTimeLeft = ({ validToDate }: X509Certificate, now: number): boolean =>
  validToDate.getTime() >= now;

export const certificateExpiry = ({ validToDate }: X509Certificate): CredentialExpiry => ({
  what: 'certificate',
  expiresAt: validToDate.getTime(),
});
