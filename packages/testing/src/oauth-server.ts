import { generateKeyPairSync } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type Provider from 'oidc-provider';
import type { ClientMetadata, Configuration } from 'oidc-provider';

/** An answer given instead of the real one: a reply, silence, or a connection that breaks. */
export type InjectedAnswer =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body: string }
  | 'hang'
  | 'reset';

/** Which clients an authorization server knows, and what it puts into its tokens. */
export interface OAuthServerOptions {
  /** Client id and secret, for client credentials and refresh tokens. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Client ids that authenticate with private_key_jwt, with their public keys as JWK. */
  readonly keys?: Readonly<Record<string, object>>;
  /** The roles claim of access tokens. Default one role; empty leaves it out, as Entra does without consent. */
  readonly roles?: readonly string[];
  /** Whom access tokens are for. Default Exchange Online. */
  readonly audience?: string;
  /** How long access tokens live, in seconds. Default 3600. */
  readonly accessTokenSeconds?: number;
  /** Holds back what token requests are answered until it resolves; by then the server has done what it was asked. */
  readonly answersAfter?: () => Promise<unknown>;
}

const exchange = 'https://outlook.office365.com';

/** A real authorization server (oidc-provider) on a loopback port, that can also be made to fail. */
export class OAuthServer implements AsyncDisposable {
  /** The grant types of the token requests that came in, in order. */
  readonly requests: string[] = [];
  /** The raw bodies of those requests. */
  readonly bodies: string[] = [];
  /** Why the server refused, in its own words; clients are not told that much. */
  readonly refusals: string[] = [];
  readonly #server: Server;
  readonly #provider: Provider;
  readonly #injected: InjectedAnswer[] = [];

  private constructor(server: Server, provider: Provider) {
    this.#server = server;
    this.#provider = provider;
    provider.on('grant.error', (_context, error) => {
      this.refusals.push(error.error_detail ?? error.error_description ?? error.message);
    });
    const callback = provider.callback();
    server.on('request', (request, response) => {
      if (request.method === 'POST') this.#record(request);
      const injected = request.method === 'POST' ? this.#injected.shift() : undefined;
      if (injected === undefined) void callback(request, response);
      else answerWith(injected, request, response);
    });
  }

  static async start(options: OAuthServerOptions = {}): Promise<OAuthServer> {
    // As it is loaded it has its say about the version of Node, which is no business of who only wants an inbox.
    const { Provider } = await import('oidc-provider');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const provider = quietly(() => new Provider(issuer, configuration(options)));
    provider.use(async (context, next) => {
      await next();
      if (context.path === '/token') await options.answersAfter?.();
    });
    return new OAuthServer(server, provider);
  }

  get issuer(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get tokenEndpoint(): string {
    return `${this.issuer}/token`;
  }

  /** Answers the next token requests with these, one after another. */
  inject(...answers: readonly InjectedAnswer[]): void {
    this.#injected.push(...answers);
  }

  /** A refresh token as if somebody had signed in. Using an old one after it was rotated kills the whole family. */
  async issueRefreshToken(clientId: string, accountId: string): Promise<string> {
    const client = await this.#provider.Client.find(clientId);
    if (!client) throw new Error(`no client ${clientId}`);
    const grant = new this.#provider.Grant({ accountId, clientId });
    grant.addOIDCScope('openid offline_access');
    const grantId = await grant.save();
    const properties = {
      accountId,
      client,
      grantId,
      scope: 'openid offline_access',
      gty: 'authorization_code',
      authTime: Math.floor(Date.now() / 1_000),
    };
    return new this.#provider.RefreshToken(properties as never).save();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Looks at the body on its way to the provider, without reading it away from there. */
  #record(request: IncomingMessage): void {
    const chunks: Buffer[] = [];
    const push = request.push.bind(request);
    request.push = (chunk: Buffer | null, encoding) => {
      if (chunk !== null) {
        chunks.push(chunk);
      } else {
        const body = Buffer.concat(chunks).toString('utf8');
        this.bodies.push(body);
        this.requests.push(new URLSearchParams(body).get('grant_type') ?? '');
      }
      return push(chunk, encoding);
    };
  }
}

function answerWith(answer: InjectedAnswer, request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  if (answer === 'hang') return;
  if (answer === 'reset') {
    request.socket.destroy();
    return;
  }
  response.writeHead(answer.status, answer.headers);
  response.end(answer.body);
}

/** The provider warns on the console about things that are fine for a test server. */
function quietly<Value>(make: () => Value): Value {
  const { warn, info } = globalThis.console;
  Object.assign(globalThis.console, { warn: () => undefined, info: () => undefined });
  try {
    return make();
  } finally {
    Object.assign(globalThis.console, { warn, info });
  }
}

function configuration(options: OAuthServerOptions): Configuration {
  const { secrets = {}, keys = {}, roles = ['SMTP.SendAsApp'], accessTokenSeconds = 3_600 } = options;
  const { audience = exchange } = options;
  const signing = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey.export({ format: 'jwk' });
  const common = { redirect_uris: [], response_types: [], scope: 'openid offline_access' };
  const clients: ClientMetadata[] = [
    ...Object.entries(secrets).map(([client_id, client_secret]) => ({
      ...common,
      client_id,
      client_secret,
      grant_types: ['client_credentials', 'refresh_token'],
      token_endpoint_auth_method: 'client_secret_post' as const,
    })),
    ...Object.entries(keys).map(([client_id, key]) => ({
      ...common,
      client_id,
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'private_key_jwt' as const,
      token_endpoint_auth_signing_alg: 'PS256' as const,
      jwks: { keys: [key as never] },
    })),
  ];
  return {
    clients,
    jwks: { keys: [{ ...signing, alg: 'RS256', use: 'sig' } as never] },
    scopes: ['openid', 'offline_access'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: '',
          audience,
          accessTokenTTL: accessTokenSeconds,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    ttl: {
      AccessToken: accessTokenSeconds,
      ClientCredentials: accessTokenSeconds,
      IdToken: 3_600,
      RefreshToken: 86_400,
      Grant: 86_400,
    },
    rotateRefreshToken: true,
    findAccount: (_context, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    extraTokenClaims: () => (roles.length > 0 ? { roles: [...roles] } : undefined),
  };
}
