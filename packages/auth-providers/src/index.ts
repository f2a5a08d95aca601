export type { AuthProvider, AuthProviderOptions, CredentialExpiry } from './auth-provider.ts';
export { createAuthProvider } from './create-auth-provider.ts';
export { type ExpiryNotice, expiryNotice } from './expiry-notice.ts';
export { FileTokenStore } from './file-token-store.ts';
export { entraTokenEndpoint, exchangeScopeAt, tokenEndpointAt } from './issuers.ts';
export {
  type FetchToken,
  TokenCache,
  type TokenCacheOptions,
  type TokenName,
} from './token-cache.ts';
export {
  type ClientAuthentication,
  type Grant,
  type IssuedToken,
  requestToken,
  type TokenEndpointOptions,
  type TokenRequest,
} from './token-endpoint.ts';
export type { ValidTokens } from './token-entry.ts';
export { readTokenClaims } from './token-provider.ts';
