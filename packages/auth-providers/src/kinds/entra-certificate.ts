import { createHash } from 'node:crypto';
import type { AuthProviderOptions } from '../auth-provider.ts';
import { exchangeOnlineScope } from '../issuers.ts';
import {
  assertEntraPermission,
  incomplete,
  resolveTokenEndpoint,
  type TokenSource,
} from '../token-provider.ts';
import {
  type CertificateCredential,
  certificateExpiry,
  hasTimeLeft,
  loadFiles,
  readCredential,
} from './certificate-credential.ts';

/**
 * Tokens of Entra for client credentials that a certificate proves (private_key_jwt with PS256, `x5t#S256`).
 *
 * @see https://learn.microsoft.com/entra/identity-platform/certificate-credentials
 */
export async function entraCertificate(
  credential: CertificateCredential,
  options: AuthProviderOptions,
): Promise<TokenSource> {
  const { assertRsaKey, assertValidNow, openCertificate } = await loadFiles();
  const read = await readCredential(credential, options);
  const { file, fileHash, password, user, clientId, tenantId, clock } = read;
  const endpoint = resolveTokenEndpoint(credential.tokenEndpoint, tenantId, credential.scope);
  if (clientId === undefined) throw incomplete('clientId');
  const { certificate, privateKey } = await openCertificate(file, password, clock.now());
  assertRsaKey(privateKey);
  const scope = credential.scope ?? exchangeOnlineScope;
  const thumbprint = createHash('sha256').update(certificate.raw).digest('base64url');
  return {
    user,
    isCurrent: async () => hasTimeLeft(certificate, clock.now()) && (await read.isCurrent()),
    // The application's own token, whoever it sends as.
    identity: [credential.kind, 'entra', endpoint, clientId, fileHash, scope],
    request: () => {
      assertValidNow(certificate, clock.now());
      return {
        endpoint,
        client: { kind: 'private-key-jwt', clientId, key: privateKey, thumbprint },
        grant: { kind: 'client-credentials', scope },
      };
    },
    ...(!credential.exchangeRbac && { check: assertEntraPermission }),
    expiry: certificateExpiry(certificate),
  };
}
