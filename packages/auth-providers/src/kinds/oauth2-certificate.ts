import type { AuthProvider, AuthProviderOptions } from '../auth-provider.ts';
import { tokenProvider } from '../token-provider.ts';
import type { CertificateCredential } from './certificate-credential.ts';
import { entraCertificate } from './entra-certificate.ts';
import { googleServiceAccount } from './google-service-account.ts';

const sources = { entra: entraCertificate, google: googleServiceAccount };

/** A certificate instead of a secret; `assertion` says whose tokens it is for. */
export function certificateProvider(
  credential: CertificateCredential,
  options: AuthProviderOptions = {},
): AuthProvider {
  const open = sources[credential.assertion];
  return tokenProvider(() => open(credential, options), options);
}
