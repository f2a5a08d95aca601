export type { AuthProvider, AuthProviderOptions, CredentialExpiry } from './auth-provider.ts';
export { createAuthProvider } from './create-auth-provider.ts';
export { type ExpiryNotice, expiryNotice } from './expiry-notice.ts';
export { FileTokenStore } from './file-token-store.ts';
export { entraTokenEndpoint, exchangeScopeAt, tokenEndpointAt } from './issuers.ts';
export { openTokens, sealTokens } from './sealed-tokens.ts';
export { settledTokens } from './token-cache.ts';
export type { TokenEndpointOptions } from './token-endpoint.ts';
export { readTokenClaims } from './token-provider.ts';
