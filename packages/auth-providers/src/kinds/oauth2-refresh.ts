import {
  type CredentialOf,
  MailError,
  SecretText,
  type StoredTokens,
  silentLogger,
  systemClock,
} from '@flowpost/core';
import type { AuthProvider, AuthProviderOptions } from '../auth-provider.ts';
import type { IssuedToken, TokenRequest } from '../token-endpoint.ts';
import { incomplete, revealer, tokenProvider } from '../token-provider.ts';

/**
 * OAuth 2.0 refresh token (RFC 6749 section 6): a person signed in once, and this keeps it alive. The access token
 * given is used until it expires or is refused. Deprecated where there is a choice: such tokens die when the person
 * changes the password or leaves.
 */
export function refreshTokenProvider(
  credential: CredentialOf<'oauth2-refresh'>,
  options: AuthProviderOptions = {},
): AuthProvider {
  const { secretBox, logger = silentLogger, clock = systemClock } = options;
  let warned = false;
  const reveal = revealer(secretBox);

  const open = async () => {
    const [user = '', clientId, clientSecret, accessToken, refreshToken] = await Promise.all(
      [
        credential.user,
        credential.clientId,
        credential.clientSecret,
        credential.accessToken,
        credential.refreshToken,
      ].map(reveal),
    );
    const endpoint = credential.tokenEndpoint;
    if (accessToken === undefined && refreshToken === undefined)
      throw incomplete('refreshToken', 'accessToken');
    if (refreshToken !== undefined && clientId === undefined) throw incomplete('clientId');

    const request = (stored: StoredTokens | undefined, isNew: boolean): TokenRequest | IssuedToken => {
      const { expiresAt } = credential;
      const stillGood = expiresAt === undefined || expiresAt > clock.now();
      // Only at first: an entry in the store means that this token was used, and is expired or refused.
      if (
        isNew &&
        accessToken !== undefined &&
        (stillGood || (refreshToken ?? stored?.refreshToken) === undefined)
      ) {
        if (!stillGood) throw expired();
        const token = { accessToken: new SecretText(accessToken), obtainedAt: clock.now() };
        return { ...token, ...(expiresAt !== undefined && { expiresAt }) };
      }
      const newest = stored?.refreshToken?.reveal() ?? refreshToken;
      if (newest === undefined || clientId === undefined) throw expired();
      if (endpoint === undefined) throw incomplete('tokenEndpoint');
      return {
        endpoint,
        client:
          clientSecret === undefined
            ? { kind: 'public', clientId }
            : { kind: 'secret', clientId, secret: new SecretText(clientSecret) },
        grant: { kind: 'refresh-token', refreshToken: new SecretText(newest) },
      };
    };
    return {
      user,
      // Another secret is no reason to go back to a refresh token that was rotated away.
      identity: [credential.kind, endpoint, clientId, refreshToken ?? accessToken, user],
      variant: [clientSecret, accessToken],
      request,
    };
  };
  const provider = tokenProvider(open, options);
  return {
    ...provider,
    async login(signal) {
      if (!warned) {
        logger.warn('credentials of kind oauth2-refresh are deprecated', {
          replacement: 'oauth2-client-credentials',
        });
        warned = true;
      }
      return provider.login(signal);
    },
  };
}

function expired(): MailError {
  return new MailError(
    'TOKEN_EXPIRED',
    'The access token has expired or was refused, and there is no refresh token.',
    {
      phase: 'token',
    },
  );
}
