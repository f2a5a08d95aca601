import { type CredentialOf, revealSecret, SecretText } from '@flowpost/core';
import type { AuthProvider, AuthProviderOptions } from '../auth-provider.ts';

/** User name and password; either may be encrypted. They are opened when a login is wanted, and not before. */
export function basicProvider(
  credential: CredentialOf<'basic'>,
  { secretBox }: AuthProviderOptions = {},
): AuthProvider {
  return {
    async login() {
      return {
        kind: 'password',
        username: await revealSecret(credential.username, secretBox),
        password: new SecretText(await revealSecret(credential.password, secretBox)),
      };
    },
    // A refused password stays refused.
    invalidate: async () => undefined,
    expiry: async () => undefined,
  };
}
