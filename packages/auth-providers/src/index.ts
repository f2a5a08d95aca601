export type { AuthProvider, AuthProviderOptions, CredentialExpiry } from './auth-provider.ts';
export { type CertificateAndKey, openCertificate, readCertificateFile } from './certificate-file.ts';
export { createAuthProvider } from './create-auth-provider.ts';
export { type ExpiryNotice, expiryNotice, noticeDays } from './expiry-notice.ts';
export { FileTokenStore } from './file-token-store.ts';
export {
  entraTokenEndpoint,
  exchangeOnlineScope,
  exchangeScopeAt,
  gmailScope,
  googleTokenEndpoint,
  olderGoogleTokenEndpoint,
} from './issuers.ts';
export { basicProvider } from './kinds/basic.ts';
export { certificateProvider } from './kinds/oauth2-certificate.ts';
export { clientCredentialsProvider } from './kinds/oauth2-client-credentials.ts';
export { refreshTokenProvider } from './kinds/oauth2-refresh.ts';
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
