import type { Clock, Logger, Login, SecretBox, TokenStore } from '@flowpost/core';
import type { TokenEndpointOptions } from './token-endpoint.ts';

/** When something a credential needs stops working. */
export interface CredentialExpiry {
  readonly what: 'certificate' | 'client secret';
  /** Unix milliseconds. */
  readonly expiresAt: number;
}

/** Turns one credential into logins. */
export interface AuthProvider {
  /**
   * A login that is valid now.
   *
   * @throws MailError with phase `token`, of category `configuration`, `authentication`, `network` or `temporary`; with phase
   * `validate` where encrypted text cannot be opened.
   */
  login(signal?: AbortSignal): Promise<Login>;
  /** Tells that a server refused this login. The next one comes with a new token, where there are tokens. */
  invalidate(login: Login): Promise<void>;
  /** When the certificate or, where known, the secret expires, so that hosts can warn in time. */
  expiry(): Promise<CredentialExpiry | undefined>;
}

/** How a provider opens its credential, keeps its tokens and reaches the token endpoint. */
export interface AuthProviderOptions extends Pick<TokenEndpointOptions, 'deadlineMs' | 'fetch'> {
  /** Opens encrypted text in the credential. */
  readonly secretBox?: SecretBox | undefined;
  /** Where tokens are kept, and who shares them and the requests for them. Default in memory, for as long as the provider lives. */
  readonly tokenStore?: TokenStore | undefined;
  readonly logger?: Logger | undefined;
  readonly clock?: Clock | undefined;
}
