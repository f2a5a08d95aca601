import type { KeyObject } from 'node:crypto';
import {
  type Clock,
  isLoopbackHost,
  longestTimerMs,
  MailError,
  readText,
  retryAfterMs,
  SecretText,
  systemClock,
  untilAborted,
  withoutBrackets,
} from '@flowpost/core';
import {
  allowInsecureRequests,
  type ClientAuth,
  ClientSecretPost,
  Configuration,
  clientCredentialsGrant,
  customFetch,
  genericGrantRequest,
  modifyAssertion,
  None,
  PrivateKeyJwt,
  refreshTokenGrant,
} from 'openid-client';
import { type Exchange, tokenFailure } from './token/token-failure.ts';

/** How the client proves who it is. */
type ClientAuthentication =
  | { readonly kind: 'secret'; readonly clientId: string; readonly secret: SecretText }
  /** RFC 7523 section 2.2, with PS256 and the certificate's SHA-256 thumbprint, as Entra wants it. */
  | {
      readonly kind: 'private-key-jwt';
      readonly clientId: string;
      readonly key: KeyObject;
      readonly thumbprint: string;
    }
  | { readonly kind: 'public'; readonly clientId: string }
  /** The grant itself says who asks, as with Google's service accounts. */
  | { readonly kind: 'none' };

/** What a token is asked for with (RFC 6749 section 1.3). */
type Grant =
  | { readonly kind: 'client-credentials'; readonly scope?: string | undefined }
  | { readonly kind: 'refresh-token'; readonly refreshToken: SecretText }
  /** RFC 7523 section 2.1. */
  | { readonly kind: 'jwt-bearer'; readonly assertion: SecretText };

/** One request to a token endpoint (RFC 6749 section 3.2). */
export interface TokenRequest {
  /** https, or http on a loopback host. */
  readonly endpoint: string;
  readonly client: ClientAuthentication;
  readonly grant: Grant;
}

/** A successful answer of a token endpoint (RFC 6749 section 5.1). */
export interface IssuedToken {
  readonly accessToken: SecretText;
  /** Unix milliseconds; absent when the issuer does not say. */
  readonly expiresAt?: number;
  readonly obtainedAt: number;
  /** A new refresh token, when the issuer rotates them. */
  readonly refreshToken?: SecretText;
}

/** How a token endpoint is asked. */
export interface TokenEndpointOptions {
  /** For everything from the connection to the last byte of the answer. Default 30 s. */
  readonly deadlineMs?: number | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
  readonly clock?: Clock | undefined;
  /** Called with a new refresh token as soon as it is there: also when the answer is of no use otherwise. */
  readonly onRotated?: ((refreshToken: SecretText) => void) | undefined;
}

/** Far more than any token needs. */
const maxResponseBytes = 256 * 1024;
const assertionLifetimeSeconds = 300;

function checkedEndpoint(endpoint: string): URL {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const host = withoutBrackets(url?.hostname ?? '');
  const isUsable = url && (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopbackHost(host)));
  if (isUsable && url.username === '' && url.password === '') return url;
  throw new MailError(
    'TOKEN_ENDPOINT_INVALID',
    'The token endpoint must be an https URL without credentials.',
    {
      phase: 'token',
      details: { host },
    },
  );
}

function clientAuthentication(client: ClientAuthentication, endpoint: string, now: number): ClientAuth {
  if (client.kind === 'secret') return ClientSecretPost(client.secret.reveal());
  if (client.kind === 'public') return None();
  if (client.kind === 'none') return () => undefined;
  const { key, thumbprint } = client;
  const signingKey = key.toCryptoKey({ name: 'RSA-PSS', hash: 'SHA-256' }, false, ['sign']);
  return PrivateKeyJwt(signingKey, {
    [modifyAssertion](header, payload) {
      header.typ = 'JWT';
      header['x5t#S256'] = thumbprint;
      const seconds = Math.floor(now / 1_000);
      Object.assign(payload, {
        aud: endpoint,
        iat: seconds,
        nbf: seconds,
        exp: seconds + assertionLifetimeSeconds,
      });
    },
  });
}

/** What an answer may hold and the library looks at (RFC 6749 section 5.1); some issuers write null for what there is not. */
const optionalMembers = ['expires_in', 'scope', 'refresh_token'];

/**
 * The members of a token answer without what nothing here uses and the library would refuse it for: the ID token some issuers send
 * along, whose issuer name is never that of the token endpoint with Entra and Google, and what is empty.
 */
function answerMembers(text: string): Record<string, unknown> | undefined {
  try {
    const { id_token: _, ...members } = JSON.parse(text);
    for (const name of optionalMembers)
      if (members[name] === null || members[name] === '') delete members[name];
    return members;
  } catch {
    return undefined;
  }
}

function secretsOf(client: ClientAuthentication, grant: Grant): string[] {
  const own = client.kind === 'secret' ? [client.secret.reveal()] : [];
  if (grant.kind === 'refresh-token') own.push(grant.refreshToken.reveal());
  return own;
}

/**
 * Asks a token endpoint (RFC 6749 section 3.2) for an access token.
 *
 * @throws MailError with phase `token`. It holds no secret, assertion or token.
 */
export async function requestToken(
  request: TokenRequest,
  options: TokenEndpointOptions = {},
): Promise<IssuedToken> {
  const { clock = systemClock, deadlineMs = 30_000, fetch = globalThis.fetch, onRotated } = options;
  const url = checkedEndpoint(request.endpoint);
  const { client, grant } = request;
  const clientId = client.kind === 'none' ? 'none' : client.clientId;
  const deadline = AbortSignal.timeout(Math.min(Math.max(0, Math.ceil(deadlineMs) || 0), longestTimerMs));
  const secrets = secretsOf(client, grant);
  const exchange: { -readonly [Key in keyof Exchange]: Exchange[Key] } = { host: url.host, secrets };

  const server = { issuer: url.origin, token_endpoint: url.href };
  const configuration = new Configuration(
    server,
    clientId,
    undefined,
    clientAuthentication(client, url.href, clock.now()),
  );
  if (url.protocol === 'http:') allowInsecureRequests(configuration);
  configuration[customFetch] = async (target, init) => {
    const response = await untilAborted(deadline, () =>
      fetch(target, { ...(init as RequestInit), signal: deadline }),
    );
    exchange.status = response.status;
    exchange.retryAfterMs = retryAfterMs(response.headers, clock.now());
    exchange.text = await untilAborted(deadline, () => readText(response.body, maxResponseBytes));
    const headers = new Headers(response.headers);
    // With this header the library would not look into the body, where the reason stands.
    headers.delete('www-authenticate');
    headers.delete('content-encoding');
    const members = answerMembers(exchange.text);
    const { refresh_token: rotated } = members ?? {};
    if (response.ok && typeof rotated === 'string') onRotated?.(new SecretText(rotated));
    const text = members ? JSON.stringify(members) : exchange.text;
    return new Response(text === '' ? null : text, { status: response.status, headers });
  };

  try {
    const answer = await requestGrant(configuration, grant);
    const obtainedAt = clock.now();
    return {
      accessToken: new SecretText(answer.access_token),
      obtainedAt,
      ...(answer.expires_in !== undefined && { expiresAt: obtainedAt + answer.expires_in * 1_000 }),
      ...(answer.refresh_token !== undefined && { refreshToken: new SecretText(answer.refresh_token) }),
    };
  } catch (cause) {
    throw tokenFailure(exchange, cause, deadline.aborted);
  }
}

function requestGrant(configuration: Configuration, grant: Grant) {
  switch (grant.kind) {
    case 'client-credentials':
      return clientCredentialsGrant(configuration, grant.scope === undefined ? {} : { scope: grant.scope });
    case 'refresh-token':
      return refreshTokenGrant(configuration, grant.refreshToken.reveal());
    case 'jwt-bearer':
      return genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:jwt-bearer', {
        assertion: grant.assertion.reveal(),
      });
  }
}
