import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import {
  type CredentialInput,
  credentialSchema,
  type Login,
  ManualClock,
  MemoryLogger,
  MemoryTokenStore,
  parseWith,
  type StoredTokens,
} from '@flowpost/core';
import { createSelfSigned, GoogleTokenEndpoint, HttpServer, OAuthServer, RawServer } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuthProviderOptions } from './auth-provider.ts';
import { openCertificate } from './certificate-file.ts';
import { createAuthProvider } from './create-auth-provider.ts';
import { expiryNotice } from './expiry-notice.ts';
import { entraTokenEndpoint } from './issuers.ts';
import { requestToken } from './token-endpoint.ts';

const secret = 's3cret~+&=%-value';
const logger = new MemoryLogger();

const provide = (credential: CredentialInput, options: AuthProviderOptions = {}) =>
  createAuthProvider(parseWith(credentialSchema, credential), { logger, ...options });

const byId = (endpoint: string, change: Partial<CredentialInput> = {}) =>
  ({
    kind: 'oauth2-client-credentials',
    user: 'sender@x.org',
    tokenEndpoint: endpoint,
    tenantId: 'tenant',
    clientId: 'app',
    clientSecret: secret,
    ...change,
  }) as CredentialInput;

const tokenOf = (login: Login): string => (login.kind === 'bearer' ? login.token.reveal() : '');

/** The error of a login that must fail, after making sure that it shows no secret. */
async function failure(
  credential: CredentialInput,
  options: AuthProviderOptions = {},
  secrets: string[] = [],
) {
  const error = await provide(credential, options)
    .login()
    .then(
      () => {
        throw new Error('logged in');
      },
      (thrown) => thrown,
    );
  const shown =
    inspect(error, { depth: 9, showHidden: true }) +
    JSON.stringify(error) +
    inspect(logger.entries, { depth: 9 });
  for (const one of [secret, encodeURIComponent(secret), ...secrets]) expect(shown).not.toContain(one);
  // Neither a token nor an assertion.
  expect(shown).not.toMatch(/eyJ[\w-]{10}/);
  expect(error).toMatchObject({ phase: 'token', inDoubt: false });
  return error;
}

describe('client credentials by secret', () => {
  it('gets a token once, for any number of logins at once and later', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const provider = provide(byId(server.tokenEndpoint));
    const logins = await Promise.all(Array.from({ length: 100 }, () => provider.login()));
    expect(new Set(logins.map(tokenOf)).size).toBe(1);
    expect(logins[0]).toMatchObject({
      kind: 'bearer',
      username: 'sender@x.org',
      expiresAt: expect.any(Number),
    });
    await provider.login();
    expect(server.requests).toEqual(['client_credentials']);
    expect(new URLSearchParams(server.bodies[0]).get('scope')).toBe('https://outlook.office365.com/.default');
  });

  it('a changed secret or scope is another token', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const tokenStore = new MemoryTokenStore();
    await provide(byId(server.tokenEndpoint), { tokenStore }).login();
    await provide(byId(server.tokenEndpoint), { tokenStore }).login();
    expect(server.requests).toHaveLength(1);
    await provide(byId(server.tokenEndpoint, { scope: 'other/.default' } as never), { tokenStore }).login();
    expect(server.requests).toHaveLength(2);
    expect(
      await failure(byId(server.tokenEndpoint, { clientSecret: 'wrong' } as never), { tokenStore }),
    ).toMatchObject({
      code: 'TOKEN_CLIENT_REFUSED',
      category: 'authentication',
      retryable: false,
    });
  });

  it('is renewed before it expires, and when a server refused it', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret }, accessTokenSeconds: 600 });
    const clock = new ManualClock(Date.now());
    const provider = provide(byId(server.tokenEndpoint), { clock });
    const first = await provider.login();
    clock.advance(299_000);
    expect(tokenOf(await provider.login())).toBe(tokenOf(first));
    clock.advance(2_000);
    const second = await provider.login();
    expect(tokenOf(second)).not.toBe(tokenOf(first));
    // Only the token that was refused is forgotten, and only once.
    await provider.invalidate(first);
    expect(tokenOf(await provider.login())).toBe(tokenOf(second));
    await Promise.all([provider.invalidate(second), provider.invalidate(second)]);
    const third = await Promise.all([provider.login(), provider.login()]);
    expect(tokenOf(third[0])).not.toBe(tokenOf(second));
    expect(server.requests).toHaveLength(3);
  });

  it('says when consent is missing', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret }, roles: [] });
    expect(await failure(byId(server.tokenEndpoint))).toMatchObject({
      code: 'TOKEN_CONSENT_MISSING',
      details: { audience: 'https://outlook.office365.com' },
      hint: expect.stringContaining('SMTP.SendAsApp'),
    });
    // With RBAC for Applications there is none in the token, and nothing is wrong.
    await provide(byId(server.tokenEndpoint, { exchangeRbac: true } as never)).login();
  });

  it('an issuer that is not Entra needs no roles and gets no default scope', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret }, roles: [] });
    await provide(byId(server.tokenEndpoint, { tenantId: undefined } as never)).login();
    expect(server.bodies[0]).not.toContain('scope');
  });
});

it.each([
  ['https://graph.microsoft.us/.default', 'login.microsoftonline.us'],
  ['https://dod-graph.microsoft.us/.default', 'login.microsoftonline.us'],
  ['https://microsoftgraph.chinacloudapi.cn/.default', 'login.chinacloudapi.cn'],
  ['https://partner.outlook.cn/.default', 'login.chinacloudapi.cn'],
  ['https://graph.microsoft.com/.default', 'login.microsoftonline.com'],
  [undefined, 'login.microsoftonline.com'],
])('a token for %s is issued at %s', (scope, host) => {
  expect(entraTokenEndpoint('tenant', scope)).toBe(`https://${host}/tenant/oauth2/v2.0/token`);
});

describe('a token request that fails', () => {
  it('is made once for all who wait, and once more after a while', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const clock = new ManualClock(Date.now());
    const provider = provide(byId(server.tokenEndpoint), { clock });
    server.inject({ status: 503, body: '<html>' });
    const all = await Promise.allSettled(Array.from({ length: 100 }, () => provider.login()));
    expect(all.every(({ status }) => status === 'rejected')).toBe(true);
    expect(server.requests).toHaveLength(1);
    const again = Promise.all(Array.from({ length: 100 }, () => provider.login()));
    await new Promise((resolve) => setImmediate(resolve));
    expect(server.requests).toHaveLength(1);
    clock.advance(1_000);
    await again;
    expect(server.requests).toHaveLength(2);
  });

  it('one who gives up does not end it for the others', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const provider = provide(byId(server.tokenEndpoint));
    const controller = new AbortController();
    const impatient = provider.login(controller.signal);
    const patient = provider.login();
    controller.abort(new Error('enough'));
    await expect(impatient).rejects.toMatchObject({ code: 'SEND_CANCELLED', phase: 'token' });
    await expect(provider.login(AbortSignal.abort())).rejects.toMatchObject({ code: 'SEND_CANCELLED' });
    expect((await patient).kind).toBe('bearer');
    expect(server.requests).toHaveLength(1);
  });

  const json = { 'content-type': 'application/json' };
  const oauthError = (status: number, error: string, more: object = {}) =>
    ({
      status,
      headers: json,
      body: JSON.stringify({ error, error_description: `echo ${secret}`, ...more }),
    }) as const;

  it.each([
    [
      'a wrong secret',
      oauthError(401, 'invalid_client', { error_codes: [7000215] }),
      'TOKEN_CLIENT_REFUSED',
      false,
      /Value, not its Secret ID/,
    ],
    [
      'an expired secret',
      oauthError(401, 'invalid_client', { error_codes: [7000222] }),
      'TOKEN_CLIENT_REFUSED',
      false,
      /expired/,
    ],
    [
      'a wrong client id',
      oauthError(400, 'unauthorized_client', { error_codes: [700016] }),
      'TOKEN_CLIENT_UNAUTHORIZED',
      false,
      /tenant/,
    ],
    [
      'a wrong tenant',
      oauthError(400, 'invalid_request', { error_codes: [90002] }),
      'TOKEN_REQUEST_INVALID',
      false,
      /no such tenant/,
    ],
    [
      'a wrong scope',
      oauthError(400, 'invalid_scope', { error_codes: [1002012] }),
      'TOKEN_SCOPE_INVALID',
      false,
      /\.default/,
    ],
    [
      'a certificate not uploaded',
      oauthError(401, 'invalid_client', { error_codes: [700027] }),
      'TOKEN_CLIENT_REFUSED',
      false,
      /Upload/,
    ],
    [
      'conditional access',
      oauthError(400, 'access_denied', { error_codes: [53003] }),
      'TOKEN_ACCESS_DENIED',
      false,
      /conditional access/,
    ],
    [
      'a 401 with a challenge',
      { ...oauthError(401, 'invalid_client'), headers: { ...json, 'www-authenticate': 'Basic' } },
      'TOKEN_CLIENT_REFUSED',
      false,
      /client id/,
    ],
    [
      'too many requests',
      { status: 429, headers: { 'retry-after': '7' }, body: '' },
      'TOKEN_ENDPOINT_BUSY',
      true,
      /later/,
    ],
    ['500', { status: 500, body: 'oops' }, 'TOKEN_ENDPOINT_BUSY', true, /later/],
    [
      '503 with a page',
      { status: 503, headers: { 'content-type': 'text/html' }, body: '<html>' },
      'TOKEN_ENDPOINT_BUSY',
      true,
      /later/,
    ],
    ['a passing fault', oauthError(400, 'temporarily_unavailable'), 'TOKEN_ENDPOINT_BUSY', true, /later/],
    [
      'a captive page',
      { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>Sign in' },
      'TOKEN_RESPONSE_NOT_JSON',
      true,
      /sign-in page/,
    ],
    [
      'no token in it',
      { status: 200, headers: json, body: '{"token_type":"Bearer"}' },
      'TOKEN_RESPONSE_INVALID',
      false,
      /token endpoint/,
    ],
    [
      'a redirect',
      { status: 302, headers: { location: 'http://169.254.169.254/' }, body: '' },
      'TOKEN_RESPONSE_NOT_JSON',
      true,
      /URL/,
    ],
    ...[404, 405, 410].map(
      (status) =>
        [
          `a page that is not there (${status})`,
          { status, headers: { 'content-type': 'text/html' }, body: '<html>' },
          'TOKEN_ENDPOINT_INVALID',
          false,
          /token endpoint/,
        ] as const,
    ),
    [
      'an endless answer',
      { status: 200, headers: json, body: `{"a":"${'x'.repeat(300_000)}"}` },
      'TOKEN_RESPONSE_NOT_JSON',
      true,
      /URL/,
    ],
    ['a reset', 'reset', 'TOKEN_ENDPOINT_UNREACHABLE', true, /cannot be reached/],
    ['silence', 'hang', 'TOKEN_ENDPOINT_TIMED_OUT', true, /in time/],
  ] as const)('%s', async (_, answer, code, retryable, hint) => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    server.inject(answer);
    const error = await failure(byId(server.tokenEndpoint), { deadlineMs: 500 });
    expect(error).toMatchObject({ code, retryable, hint: expect.stringMatching(hint) });
    if (code === 'TOKEN_ENDPOINT_BUSY' && _ === 'too many requests')
      expect(error.details.retryAfterMs).toBe(7_000);
  });

  it.each([
    ['the request', { error: `bad form: ${secret}`, correlation_id: `client_secret=${secret}` }],
    ['a property of every object', { error: 'constructor' }],
  ])('an error that repeats %s is told as far as it is one', async (_, body) => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    server.inject({ status: 400, headers: json, body: JSON.stringify(body) });
    expect(await failure(byId(server.tokenEndpoint))).toMatchObject({
      code: 'TOKEN_REQUEST_INVALID',
      retryable: false,
    });
  });

  it.each([
    'mysecret_isaword',
    'MySecret_IsAWord',
    'GOCSPX-4u5HxAbCdEfGhIjKlMnOpQrStUv',
    '3f2b8c1e-9d4a-4c6b-8e2f-1a2b3c4d5e6f',
  ])('what a server repeats as an error code or an id (%s) is not shown', async (clientSecret) => {
    await using server = await OAuthServer.start({ secrets: { app: clientSecret } });
    const code = `no_client_with_${clientSecret.toLowerCase()}`;
    const echo = { error: code, correlation_id: clientSecret, trace_id: clientSecret.toUpperCase() };
    server.inject({ status: 400, headers: json, body: JSON.stringify(echo) });
    const error = await failure(byId(server.tokenEndpoint, { clientSecret }));
    expect(error.code).toBe('TOKEN_REQUEST_INVALID');
    expect(inspect(error, { depth: 9 }).toLowerCase()).not.toContain(clientSecret.toLowerCase());
  });

  it('429 is for later, whatever else it says', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    server.inject(oauthError(429, 'invalid_request'));
    expect(await failure(byId(server.tokenEndpoint))).toMatchObject({
      code: 'TOKEN_ENDPOINT_BUSY',
      retryable: true,
    });
  });

  it('an answer that breaks off is no sign-in page', async () => {
    await using server = await RawServer.start((socket) => {
      socket.once('data', () =>
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"acc', () => socket.destroy()),
      );
    });
    const error = await failure(byId(`http://127.0.0.1:${server.port}/token`));
    expect(error).toMatchObject({ code: 'TOKEN_ENDPOINT_UNREACHABLE', retryable: true });
  });

  it('a certificate that nobody vouches for is said to be that, and not tried again', async () => {
    const certificate = await createSelfSigned();
    await using server = await HttpServer.start(() => undefined, { certificate });
    const error = await failure(byId(server.url('/token', 'localhost')));
    expect(error).toMatchObject({
      ...{ code: 'TLS_CERTIFICATE_UNTRUSTED', phase: 'token', retryable: false },
      hint: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    });
  });

  it('the deadline holds even for a fetch that knows no signals', async () => {
    const fetch = (): Promise<never> => new Promise(() => undefined);
    const error = await failure(byId('https://login.example.com/token'), { fetch, deadlineMs: 50 });
    expect(error.code).toBe('TOKEN_ENDPOINT_TIMED_OUT');
  });

  it('an ID token that comes along is left alone', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const claims = Buffer.from(
      JSON.stringify({ iss: 'https://login.microsoftonline.com/tid/v2.0' }),
    ).toString('base64url');
    const answer = {
      access_token: 'opaque',
      token_type: 'Bearer',
      expires_in: 3600,
      id_token: `e30.${claims}.sig`,
    };
    server.inject({ status: 200, headers: json, body: JSON.stringify(answer) });
    expect(tokenOf(await provide(byId(server.tokenEndpoint)).login())).toBe('opaque');
  });

  it('members that say null or nothing are as good as absent', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const empty = { expires_in: null, scope: null, refresh_token: '' };
    const answer = { access_token: 'opaque', token_type: 'Bearer', ...empty };
    server.inject({ status: 200, headers: json, body: JSON.stringify(answer) });
    expect(tokenOf(await provide(byId(server.tokenEndpoint)).login())).toBe('opaque');
  });

  it('an access token that is none is not kept', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const answer = { access_token: 'one\n', token_type: 'Bearer' };
    server.inject({ status: 200, headers: json, body: JSON.stringify(answer) });
    const tokenStore = new MemoryTokenStore();
    const written: StoredTokens[] = [];
    tokenStore.set = async (_, tokens) => void written.push(tokens);
    await expect(provide(byId(server.tokenEndpoint), { tokenStore }).login()).rejects.toMatchObject({
      code: 'TOKEN_RESPONSE_INVALID',
    });
    expect(written).toEqual([]);
  });

  it('an endpoint nobody listens at, and one that is not to be trusted', async () => {
    const { tokenEndpoint } = await OAuthServer.start().then(async (server) => {
      const { tokenEndpoint } = server;
      await server[Symbol.asyncDispose]();
      return { tokenEndpoint };
    });
    expect(await failure(byId(tokenEndpoint))).toMatchObject({
      code: 'TOKEN_ENDPOINT_UNREACHABLE',
      details: { reason: 'ECONNREFUSED' },
    });
    for (const endpoint of ['http://login.example.com/token', 'https://u:p@login.example.com/token']) {
      expect(await failure(byId(endpoint))).toMatchObject({
        code: 'TOKEN_ENDPOINT_INVALID',
        category: 'configuration',
      });
    }
  });

  it('a credential that lacks something names it', async () => {
    const { tokenEndpoint: _, tenantId: __, ...bare } = byId('https://x.org') as Record<string, unknown>;
    expect(await failure(bare as CredentialInput)).toMatchObject({
      code: 'CREDENTIAL_INCOMPLETE',
      details: { missing: ['tokenEndpoint', 'tenantId'] },
    });
  });
});

describe('refresh token', () => {
  const credential = (server: OAuthServer, change: object) =>
    ({
      kind: 'oauth2-refresh',
      user: 'me@x.org',
      clientId: 'app',
      clientSecret: secret,
      tokenEndpoint: server.tokenEndpoint,
      ...change,
    }) as CredentialInput;

  it('is rotated, and the new one is used from then on, whoever asks at once', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const refreshToken = await server.issueRefreshToken('app', 'me');
    const tokenStore = new MemoryTokenStore();
    const provider = provide(credential(server, { refreshToken }), { tokenStore });
    for (let round = 0; round < 3; round++) {
      const logins = await Promise.all(Array.from({ length: 20 }, () => provider.login()));
      await Promise.all(logins.map((login) => provider.invalidate(login)));
    }
    expect(server.requests).toEqual(['refresh_token', 'refresh_token', 'refresh_token']);
    expect(new Set(server.bodies.map((body) => new URLSearchParams(body).get('refresh_token'))).size).toBe(3);
    // A new process with the same settings goes on from what is stored; the original token would kill the family.
    await provide(credential(server, { refreshToken }), { tokenStore }).login();
    expect(server.refusals).toEqual([]);
    expect(server.requests).toHaveLength(4);
  });

  it('the access token given is used until it expires or is refused', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const refreshToken = await server.issueRefreshToken('app', 'me');
    const clock = new ManualClock(Date.now());
    const given = { accessToken: 'given-access-token', refreshToken, expiresAt: clock.now() + 3_600_000 };
    const provider = provide(credential(server, given), { clock });
    const login = await provider.login();
    expect([tokenOf(login), server.requests]).toEqual(['given-access-token', []]);
    await provider.invalidate(login);
    expect(tokenOf(await provider.login())).not.toBe('given-access-token');
    const late = provide(
      credential(server, { ...given, refreshToken: await server.issueRefreshToken('app', 'me') }),
      { clock },
    );
    clock.advance(3_600_001);
    expect(tokenOf(await late.login())).not.toBe('given-access-token');
    expect(server.requests).toEqual(['refresh_token', 'refresh_token']);
  });

  it('another access token is used, although the refresh token was rotated since', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const refreshToken = await server.issueRefreshToken('app', 'me');
    const tokenStore = new MemoryTokenStore();
    const provided = (accessToken: string, expiresAt: number) =>
      provide(credential(server, { accessToken, refreshToken, expiresAt }), { tokenStore });
    await provided('first-access-token', 1).login();
    const provider = provided('second-access-token', Date.now() + 3_600_000);
    const login = await provider.login();
    expect([tokenOf(login), server.requests]).toEqual(['second-access-token', ['refresh_token']]);
    // What was rotated is still known when the second one is refused.
    await provider.invalidate(login);
    expect(tokenOf(await provider.login())).not.toBe('second-access-token');
    expect([server.requests.length, server.refusals]).toEqual([2, []]);
  });

  it('without a refresh token an expired or refused access token says so', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const expired = credential(server, { accessToken: 'old-access-token', expiresAt: 1 });
    expect(await failure(expired, {}, ['old-access-token'])).toMatchObject({ code: 'TOKEN_EXPIRED' });
    const provider = provide(credential(server, { accessToken: 'some-access-token' }));
    await provider.invalidate(await provider.login());
    await expect(provider.login()).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
    expect(await failure(credential(server, {}))).toMatchObject({ code: 'CREDENTIAL_INCOMPLETE' });
  });

  it('a revoked one says so, and the kind is deprecated with one warning naming the replacement', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const quiet = new MemoryLogger();
    const provider = provide(credential(server, { refreshToken: 'revoked-refresh-token' }), {
      logger: quiet,
      clock: new ManualClock(Date.now()),
    });
    await expect(provider.login()).rejects.toMatchObject({ code: 'TOKEN_GRANT_REFUSED', retryable: false });
    provider.login().catch(() => undefined);
    expect(quiet.entries.filter(({ level }) => level === 'warn')).toEqual([
      expect.objectContaining({ fields: { replacement: 'oauth2-client-credentials' } }),
    ]);
  });
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
describe.skipIf(!hasOpenssl)('certificate', () => {
  let folder: string;
  const at = (name: string): string => join(folder, name);
  const password = 'Päßwörd';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowpost-certificate-'));
    const run = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
    for (const name of ['app', 'other']) {
      run(
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.crt`,
        '-days',
        '20',
        '-subj',
        '/CN=app',
      );
      run(
        'pkcs12',
        '-export',
        '-in',
        `${name}.crt`,
        '-inkey',
        `${name}.key`,
        '-out',
        `${name}.pfx`,
        '-passout',
        `pass:${password}`,
      );
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const publicJwk = () => ({
    ...createPublicKey(readFileSync(at('app.crt'))).export({ format: 'jwk' }),
    alg: 'PS256',
    use: 'sig',
  });
  const credential = (endpoint: string, change: object = {}) =>
    ({
      kind: 'oauth2-certificate',
      assertion: 'entra',
      user: 'sender@x.org',
      clientId: 'app',
      tenantId: 'tenant',
      tokenEndpoint: endpoint,
      certificateFile: at('app.pfx'),
      certificatePassword: password,
      ...change,
    }) as CredentialInput;

  it('signs in with private_key_jwt as Entra wants it', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    const provider = provide(credential(server.tokenEndpoint));
    expect((await provider.login()).username).toBe('sender@x.org');
    const form = new URLSearchParams(server.bodies[0]);
    const [header, claims] = (form.get('client_assertion') ?? '')
      .split('.')
      .slice(0, 2)
      .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()));
    const thumbprint = Buffer.from(
      new X509Certificate(readFileSync(at('app.crt'))).fingerprint256.replaceAll(':', ''),
      'hex',
    );
    expect(header).toEqual({ alg: 'PS256', typ: 'JWT', 'x5t#S256': thumbprint.toString('base64url') });
    expect(claims).toMatchObject({
      aud: server.tokenEndpoint,
      iss: 'app',
      sub: 'app',
      jti: expect.any(String),
    });
    expect(claims.exp - claims.iat).toBe(300);
    const expiry = await provider.expiry();
    expect(expiry).toMatchObject({ what: 'certificate' });
    expect(expiry && expiryNotice(expiry, Date.now())).toMatchObject({ due: 30, daysLeft: 19 });
  });

  it('never says the same thing twice: a replayed or expired assertion is refused', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    const provider = provide(credential(server.tokenEndpoint));
    await provider.invalidate(await provider.login());
    await provider.login();
    const [first, second] = server.bodies.map(
      (body) => new URLSearchParams(body).get('client_assertion') ?? '',
    );
    const jti = (assertion = ''): string =>
      JSON.parse(Buffer.from(assertion.split('.')[1] ?? '', 'base64url').toString()).jti;
    expect(jti(first)).not.toBe(jti(second));
    const replay = await fetch(server.tokenEndpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: server.bodies[0] ?? '',
    });
    expect(replay.status).toBe(401);

    const { certificate, privateKey } = await openCertificate(readFileSync(at('app.pfx')), password);
    const thumbprint = createHash('sha256').update(certificate.raw).digest('base64url');
    const request = {
      endpoint: server.tokenEndpoint,
      client: { kind: 'private-key-jwt', clientId: 'app', key: privateKey, thumbprint } as const,
      grant: { kind: 'client-credentials' } as const,
    };
    const anHourAgo = new ManualClock(Date.now() - 3_600_000);
    await expect(requestToken(request, { clock: anHourAgo })).rejects.toMatchObject({
      code: 'TOKEN_CLIENT_REFUSED',
    });
    expect(server.refusals.length).toBeGreaterThanOrEqual(2);
  });

  it('takes PEM bytes too, and never shows them', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    const certificate = Buffer.concat([readFileSync(at('app.crt')), readFileSync(at('app.key'))]);
    const parsed = parseWith(
      credentialSchema,
      credential(server.tokenEndpoint, { certificate, certificateFile: undefined }),
    );
    expect(inspect(parsed, { depth: 9, showHidden: true }) + JSON.stringify(parsed)).not.toMatch(
      /PRIVATE|\[45,45|2d 2d/,
    );
    expect((await createAuthProvider(parsed).login()).kind).toBe('bearer');
  });

  it('says what is wrong: key, password, file, dates, key type', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    const { tokenEndpoint } = server;
    const code = async (change: object, options: AuthProviderOptions = {}) =>
      (await failure(credential(tokenEndpoint, change), options, [password])).code;
    expect(await code({ certificateFile: at('other.pfx') })).toBe('TOKEN_CLIENT_REFUSED');
    expect(await code({ certificatePassword: 'wrong' })).toBe('CERTIFICATE_PASSWORD_WRONG');
    expect(await code({ certificateFile: at('missing.pfx') })).toBe('CERTIFICATE_NOT_FOUND');
    expect(await code({ certificateFile: at('app.crt') })).toBe('CERTIFICATE_KEY_MISSING');
    expect(await code({ certificateFile: undefined })).toBe('CREDENTIAL_INCOMPLETE');
    expect(await code({}, { clock: new ManualClock(0) })).toBe('CERTIFICATE_NOT_YET_VALID');
    expect(await code({}, { clock: new ManualClock(Date.now() + 30 * 86_400_000) })).toBe(
      'CERTIFICATE_EXPIRED',
    );
    const { cert, key } = await createSelfSigned();
    expect(await code({ certificate: Buffer.from(cert + key) })).toBe('CERTIFICATE_KEY_UNSUITABLE');
  });

  it('a file that is renewed on disk is read anew, and one that has gone is still good', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    execFileSync('cp', [at('other.pfx'), at('renewed.pfx')]);
    const provider = provide(credential(server.tokenEndpoint, { certificateFile: at('renewed.pfx') }));
    await expect(provider.login()).rejects.toMatchObject({ code: 'TOKEN_CLIENT_REFUSED' });
    execFileSync('cp', [at('app.pfx'), at('renewed.pfx')]);
    await provider.login();
    execFileSync('rm', [at('renewed.pfx')]);
    expect((await provider.expiry())?.what).toBe('certificate');
  });

  it('a file that is found half written changes nothing, as long as what was read before has not ended', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    const path = at('half.pfx');
    execFileSync('cp', [at('app.pfx'), path]);
    const clock = new ManualClock(Date.now());
    const logger = new MemoryLogger();
    const provider = provide(credential(server.tokenEndpoint, { certificateFile: path }), { clock, logger });
    await provider.login();
    writeFileSync(path, readFileSync(at('app.pfx')).subarray(0, 500));
    expect((await provider.login()).kind).toBe('bearer');
    const warnings = () => logger.entries.filter(({ level }) => level === 'warn');
    expect(warnings()).toMatchObject([{ fields: { code: 'CERTIFICATE_NOT_RECOGNIZED' } }]);
    execFileSync('cp', [at('app.pfx'), path]);
    await provider.login();
    expect(warnings()).toHaveLength(1);
    writeFileSync(path, '');
    clock.advance(30 * 86_400_000);
    await expect(provider.login()).rejects.toMatchObject({ category: 'configuration' });
  });

  it('the next certificate in a file takes over when the one before has ended', async () => {
    const day = 86_400_000;
    const [now, next] = await Promise.all([
      createSelfSigned({ keys: 'rsa', notAfter: new Date(Date.now() + 2 * day) }),
      createSelfSigned({
        keys: 'rsa',
        notBefore: new Date(Date.now() + day),
        notAfter: new Date(Date.now() + 90 * day),
      }),
    ]);
    const certificate = Buffer.from([now.key, now.cert, next.key, next.cert].join(''));
    const clock = new ManualClock(Date.now());
    const provider = provide(credential('https://x.example/', { certificate, certificateFile: undefined }), {
      clock,
    });
    const daysLeft = async () =>
      Math.round(((await provider.expiry())?.expiresAt ?? 0) / day - clock.now() / day);
    expect(await daysLeft()).toBe(2);
    clock.advance(3 * day);
    expect(await daysLeft()).toBe(87);
  });

  it('a tenant that is none is refused', async () => {
    const change = { tokenEndpoint: undefined, tenantId: 'a/../b' };
    expect((await failure(credential('', change))).code).toBe('TOKEN_ENDPOINT_INVALID');
  });

  it('a missing file may turn up later', async () => {
    await using server = await OAuthServer.start({ keys: { app: publicJwk() } });
    const provider = provide(credential(server.tokenEndpoint, { certificateFile: at('later.pfx') }));
    await expect(provider.login()).rejects.toMatchObject({ code: 'CERTIFICATE_NOT_FOUND' });
    execFileSync('cp', [at('app.pfx'), at('later.pfx')]);
    expect((await provider.login()).kind).toBe('bearer');
  });
});

describe('a Google service account', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const clientEmail = 'robot@project.iam.gserviceaccount.com';
  const jsonKey = (tokenUri: string): Buffer =>
    Buffer.from(
      JSON.stringify({
        type: 'service_account',
        client_email: clientEmail,
        private_key: privateKey.export({ format: 'pem', type: 'pkcs8' }),
        private_key_id: 'key-1',
        token_uri: tokenUri,
      }),
    );
  const credential = (certificate: Buffer, change: object = {}) =>
    ({
      kind: 'oauth2-certificate',
      assertion: 'google',
      user: 'ann@x.org',
      certificate,
      ...change,
    }) as CredentialInput;

  it('acts as a user with the JSON key', async () => {
    await using google = await GoogleTokenEndpoint.start({ clientEmail, publicKey, users: ['ann@x.org'] });
    const login = await provide(credential(jsonKey(google.url))).login();
    expect([login.username, tokenOf(login)]).toEqual(['ann@x.org', 'ya29.ann@x.org']);
    expect(google.accepted).toMatchObject([
      { iss: clientEmail, sub: 'ann@x.org', scope: 'https://mail.google.com/' },
    ]);
  });

  it('a user it may not act as, another key, and a clock that is wrong', async () => {
    await using google = await GoogleTokenEndpoint.start({ clientEmail, publicKey, users: ['ann@x.org'] });
    const key = jsonKey(google.url);
    expect(await failure(credential(key, { user: 'eve@x.org' }))).toMatchObject({
      code: 'TOKEN_CLIENT_UNAUTHORIZED',
    });
    const stale = await failure(credential(key), { clock: new ManualClock(Date.now() - 7_200_000) });
    expect(stale).toMatchObject({ code: 'TOKEN_GRANT_REFUSED' });
    const other = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey.export({
      format: 'pem',
      type: 'pkcs8',
    });
    const forged = Buffer.from(JSON.stringify({ ...JSON.parse(key.toString()), private_key: other }));
    expect(await failure(credential(forged))).toMatchObject({ code: 'TOKEN_GRANT_REFUSED' });
    expect(await failure(credential(Buffer.from('{"private_key":1}')))).toMatchObject({
      code: 'CERTIFICATE_NOT_RECOGNIZED',
    });
  });
});

describe('expiry notices', () => {
  const day = 86_400_000;
  it.each([
    [31, undefined],
    [30, 30],
    [8, 30],
    [7, 7],
    [1.5, 7],
    [1, 1],
    [0, 0],
    [-3, 0],
  ])('%d days before: %s', (days, due) => {
    const notice = expiryNotice({ what: 'client secret', expiresAt: 100 * day }, (100 - days) * day);
    expect(notice?.due).toBe(due);
  });

  it('come for a secret whose end is known', async () => {
    const credential = byId('https://x.org/token', {
      clientSecretExpiresAt: '2027-01-01T00:00:00Z',
    } as never);
    expect(await provide(credential).expiry()).toEqual({
      what: 'client secret',
      expiresAt: Date.UTC(2027, 0, 1),
    });
    expect(await provide({ kind: 'basic', username: 'u', password: 'p' }).expiry()).toBeUndefined();
  });
});
