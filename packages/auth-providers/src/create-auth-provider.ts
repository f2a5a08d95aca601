import { type Credential, MailError, type SecretBox } from '@flowpost/core';
import type { AuthProvider } from './auth-provider.ts';
import { basicProvider } from './kinds/basic.ts';

export interface AuthProviderOptions {
  /** Opens encrypted text in the credential. */
  readonly secretBox?: SecretBox | undefined;
}

/**
 * The provider for any credential.
 *
 * @throws MailError `CREDENTIAL_KIND_UNAVAILABLE` for a kind this version cannot log in with.
 */
export function createAuthProvider(credential: Credential, options: AuthProviderOptions = {}): AuthProvider {
  switch (credential.kind) {
    case 'basic':
      return basicProvider(credential, options.secretBox);
    default:
      throw new MailError(
        'CREDENTIAL_KIND_UNAVAILABLE',
        `Credentials of kind ${credential.kind} are not available in this version.`,
        { details: { kind: credential.kind, available: ['basic'] } },
      );
  }
}
