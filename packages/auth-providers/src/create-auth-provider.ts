import { type Credential, guardLogger } from '@flowpost/core';
import type { AuthProvider, AuthProviderOptions } from './auth-provider.ts';
import { basicProvider } from './kinds/basic.ts';
import { certificateProvider } from './kinds/oauth2-certificate.ts';
import { clientCredentialsProvider } from './kinds/oauth2-client-credentials.ts';
import { refreshTokenProvider } from './kinds/oauth2-refresh.ts';

/** The provider for any credential. Nothing is opened, read or fetched before a login is wanted. */
export function createAuthProvider(credential: Credential, given: AuthProviderOptions = {}): AuthProvider {
  const options = given.logger ? { ...given, logger: guardLogger(given.logger) } : given;
  switch (credential.kind) {
    case 'basic':
      return basicProvider(credential, options);
    case 'oauth2-client-credentials':
      return clientCredentialsProvider(credential, options);
    case 'oauth2-refresh':
      return refreshTokenProvider(credential, options);
    case 'oauth2-certificate':
      return certificateProvider(credential, options);
  }
}
