import { createHash } from 'node:crypto';
import {
  cancellationOf,
  type EncryptedText,
  isMailError,
  type Login,
  MailError,
  MemoryTokenStore,
  revealSecret,
  type SecretBox,
  type SecretText,
  type StoredTokens,
  systemClock,
} from '@flowpost/core';
import type { AuthProvider, AuthProviderOptions, CredentialExpiry } from './auth-provider.ts';
import { entraTokenEndpoint } from './issuers.ts';
import { type FetchToken, type TokenName, tokenCacheFor } from './token-cache.ts';
import type { IssuedToken, TokenRequest } from './token-endpoint.ts';

/** A credential with everything decrypted, ready to ask for tokens. */
export interface TokenSource {
  /** Who the token is for: the user name of the login. */
  readonly user: string;
  /** Everything that matters for the token: another secret or scope is another key. */
  readonly identity: readonly (string | undefined)[];
  /** Details that make another access token, but leave a rotated refresh token good. */
  readonly variant?: readonly (string | undefined)[];
  /** False when what was opened has changed on disk. */
  isCurrent?(): Promise<boolean>;
  /**
   * The request, given what is stored from earlier ones.
   *
   * @param isNew nothing is stored of this variant, so that what it brings along was not used yet.
   */
  request(
    stored: StoredTokens | undefined,
    isNew: boolean,
  ): TokenRequest | IssuedToken | Promise<TokenRequest | IssuedToken>;
  /** Looks at a new token, and throws when it cannot work. */
  check?(token: IssuedToken): void;
  readonly expiry?: CredentialExpiry | undefined;
}

/** Names the tokens of a credential in a store. A hash, so that it tells nothing about the secrets in it. */
function hashParts(identity: TokenSource['identity']): string {
  return createHash('sha256')
    .update(JSON.stringify(identity.map((part) => part ?? null)))
    .digest('base64url');
}

const tokenName = ({ identity, variant }: TokenSource): TokenName => ({
  key: hashParts(identity),
  ...(variant && { variant: hashParts(variant) }),
});

/** RFC 6750 section 2.1. What is something else would be repeated by whoever refuses to send it. */
function assertToken(token: SecretText): void {
  if (/^[\x21-\x7e]+$/.test(token.reveal())) return;
  throw new MailError('TOKEN_RESPONSE_INVALID', 'The access token has characters in it that no token has.', {
    phase: 'token',
    hint: 'If the token stands in the connection, copy it again, in one line.',
  });
}

/** What ended the waiting for a token. */
function cancelled(signal: AbortSignal): MailError {
  const { code, message, ...cause } = cancellationOf(signal);
  return new MailError(code, `While a token was being fetched, ${message}.`, { phase: 'token', ...cause });
}

/** The provider for any credential that is turned into tokens. */
export function tokenProvider(open: () => Promise<TokenSource>, options: AuthProviderOptions): AuthProvider {
  const { clock, logger, deadlineMs, fetch } = options;
  const store = options.tokenStore ?? new MemoryTokenStore();
  const cache = tokenCacheFor(store, { clock, logger });
  const endpoint = { clock, deadlineMs, fetch };
  let opened: Promise<TokenSource> | undefined;
  const reopen = (before?: TokenSource): Promise<TokenSource> => {
    opened = open().catch((error) => {
      // A failure is not kept, because a missing file may turn up.
      opened = before && Promise.resolve(before);
      // A file may be found half written, and what was read of it before is still good.
      const endsAt = before?.expiry?.expiresAt ?? Number.POSITIVE_INFINITY;
      if (!before || endsAt <= (clock ?? systemClock).now()) throw error;
      const code = isMailError(error) ? error.code : undefined;
      logger?.warn(
        'what a credential was renewed with cannot be opened; what was there before is still good',
        { code },
      );
      return before;
    });
    return opened;
  };
  /** Opened once, and again when a file it was read from has been renewed. */
  const source = async (): Promise<TokenSource> => {
    const current = await (opened ?? reopen());
    return (await current.isCurrent?.()) === false ? reopen(current) : current;
  };
  return {
    async login(signal): Promise<Login> {
      const from = await source();
      const name = tokenName(from);
      const fetchToken: FetchToken = async (stored, onRequest, onRotated) => {
        const isNew = stored === undefined || stored.variant !== name.variant;
        const wanted = await from.request(stored, isNew);
        if ('accessToken' in wanted) {
          from.check?.(wanted);
          return wanted;
        }
        onRequest();
        // Loaded when the first token is wanted: a session with a password, or with a token that is still good, needs no OAuth client.
        const { requestToken } = await import('./token-endpoint.ts');
        const issued = await requestToken(wanted, { ...endpoint, onRotated });
        assertToken(issued.accessToken);
        from.check?.(issued);
        return issued;
      };
      const { accessToken, expiresAt } = await cache.get(name, fetchToken, signal).catch((error) => {
        throw signal?.aborted && error === signal.reason ? cancelled(signal) : error;
      });
      assertToken(accessToken);
      const times = expiresAt === undefined ? {} : { expiresAt };
      return { kind: 'bearer', username: from.user, token: accessToken, ...times };
    },
    async invalidate(login) {
      if (login.kind === 'bearer') cache.invalidate(tokenName(await source()), login.token.reveal());
    },
    expiry: async () => (await source()).expiry,
  };
}

/** @throws MailError `CREDENTIAL_INCOMPLETE` naming what is missing. */
export function incomplete(...missing: string[]): MailError {
  return new MailError('CREDENTIAL_INCOMPLETE', `The credential lacks ${missing.join(' or ')}.`, {
    phase: 'token',
    details: { missing },
  });
}

/** Opens the parts of a credential; what is not given stays so. */
export function revealer(box: SecretBox | undefined) {
  return async (part: string | SecretText | EncryptedText | undefined): Promise<string | undefined> =>
    // Encrypted text shows that it is empty only now.
    part === undefined ? undefined : (await revealSecret(part, box)) || undefined;
}

/** @throws MailError `CREDENTIAL_INCOMPLETE` when neither an endpoint nor a tenant is given. */
export function resolveTokenEndpoint(
  endpoint: string | undefined,
  tenant: string | undefined,
  scope: string | undefined,
): string {
  if (endpoint !== undefined) return endpoint;
  if (tenant !== undefined) return entraTokenEndpoint(tenant, scope);
  throw incomplete('tokenEndpoint', 'tenantId');
}

/** The claims of an access token that happens to be a JWT; its signature is the resource's business. */
export function readTokenClaims(token: SecretText): Record<string, unknown> | undefined {
  try {
    const claims = JSON.parse(Buffer.from(token.reveal().split('.')[1] ?? '', 'base64url').toString('utf8'));
    return typeof claims === 'object' && claims !== null ? claims : undefined;
  } catch {
    return undefined;
  }
}

/** Entra issues tokens without any permission when consent is missing, and the mail server then says only 535. */
export function assertEntraPermission({ accessToken }: IssuedToken): void {
  const claims = readTokenClaims(accessToken);
  if (!claims) return;
  const { roles, scp, aud } = claims;
  const has = (value: unknown): boolean =>
    Array.isArray(value) ? value.length > 0 : typeof value === 'string' && value !== '';
  if (has(roles) || has(scp)) return;
  throw new MailError('TOKEN_CONSENT_MISSING', 'Entra issued a token without any permission.', {
    phase: 'token',
    details: { ...(typeof aud === 'string' && { audience: aud }) },
  });
}
