import { type CredentialOf, revealSecret, SecretText } from '@flowpost/core';
import type { AuthProvider, AuthProviderOptions } from '../auth-provider.ts';
import { exchangeOnlineScope, isEntraHost } from '../issuers.ts';
import {
  assertEntraPermission,
  incomplete,
  resolveTokenEndpoint,
  revealer,
  tokenProvider,
} from '../token-provider.ts';

/**
 * OAuth 2.0 client credentials (RFC 6749 section 4.4) with a secret: the application logs in as itself and sends as
 * `user`. With `tenantId` the token endpoint and the scope are those of Entra and Exchange Online.
 */
export function clientCredentialsProvider(
  credential: CredentialOf<'oauth2-client-credentials'>,
  options: AuthProviderOptions = {},
): AuthProvider {
  const open = async () => {
    const { secretBox } = options;
    const user = await revealSecret(credential.user, secretBox);
    const clientId = await revealSecret(credential.clientId, secretBox);
    const secret = await revealSecret(credential.clientSecret, secretBox);
    // Encrypted text shows that it is empty only now.
    if (clientId === '') throw incomplete('clientId');
    if (secret === '') throw incomplete('clientSecret');
    const tenant = await revealer(secretBox)(credential.tenantId);
    const endpoint = resolveTokenEndpoint(credential.tokenEndpoint, tenant, credential.scope);
    const isEntra = tenant !== undefined || isEntraHost(new URL(endpoint).hostname);
    const scope = credential.scope ?? (isEntra ? exchangeOnlineScope : undefined);
    const { clientSecretExpiresAt } = credential;
    return {
      user,
      // The application's own token, whoever it sends as.
      identity: [credential.kind, endpoint, clientId, secret, scope],
      request: () => ({
        endpoint,
        client: { kind: 'secret', clientId, secret: new SecretText(secret) } as const,
        grant: { kind: 'client-credentials', scope } as const,
      }),
      ...(isEntra && !credential.exchangeRbac && { check: assertEntraPermission }),
      ...(clientSecretExpiresAt !== undefined && {
        expiry: { what: 'client secret', expiresAt: Date.parse(clientSecretExpiresAt) } as const,
      }),
    };
  };
  return tokenProvider(open, options);
}
