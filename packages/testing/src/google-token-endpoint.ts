import { type KeyObject, verify } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** Which service account there is, and for whom it may act. */
export interface GoogleTokenEndpointOptions {
  /** The service account's address and public key. */
  readonly clientEmail: string;
  readonly publicKey: KeyObject;
  /** Users it may act as. */
  readonly users: readonly string[];
}

/**
 * Google's token endpoint for service accounts, as exact as its documentation: the assertion alone says who asks, there
 * is no client id, and it refuses whatever the real one refuses.
 *
 * @see https://developers.google.com/identity/protocols/oauth2/service-account
 */
export class GoogleTokenEndpoint implements AsyncDisposable {
  /** The claims of the assertions that were accepted. */
  readonly accepted: Record<string, unknown>[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(options: GoogleTokenEndpointOptions): Promise<GoogleTokenEndpoint> {
    const server = createServer(async (request, response) => {
      const answer = endpoint.#answerSafely(new URLSearchParams(await text(request)), options);
      response.writeHead('error' in answer ? 400 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    });
    const endpoint = new GoogleTokenEndpoint(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answerSafely(form: URLSearchParams, options: GoogleTokenEndpointOptions): Record<string, unknown> {
    try {
      return this.#answer(form, options);
    } catch {
      return { error: 'invalid_grant', error_description: 'Bad Request' };
    }
  }

  #answer(form: URLSearchParams, options: GoogleTokenEndpointOptions): Record<string, unknown> {
    const names = [...form.keys()].toSorted().join();
    if (names !== 'assertion,grant_type')
      return { error: 'invalid_request', error_description: `fields: ${names}` };
    if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') {
      return { error: 'unsupported_grant_type' };
    }
    const [header = '', payload = '', signature = ''] = (form.get('assertion') ?? '').split('.');
    const decode = (part: string): Record<string, unknown> =>
      JSON.parse(Buffer.from(part, 'base64url').toString());
    const claims = decode(payload);
    const signed = Buffer.from(`${header}.${payload}`);
    const now = Date.now() / 1_000;
    const isGenuine =
      decode(header).alg === 'RS256' &&
      verify('sha256', signed, options.publicKey, Buffer.from(signature, 'base64url')) &&
      claims.iss === options.clientEmail &&
      claims.aud === this.url;
    if (!isGenuine) return { error: 'invalid_grant', error_description: 'Invalid JWT Signature.' };
    const [iat, exp] = [Number(claims.iat), Number(claims.exp)];
    if (!(exp > now && exp - iat <= 3_600 && iat <= now + 5)) {
      return {
        error: 'invalid_grant',
        error_description: 'Token must be short-lived and in a reasonable timeframe.',
      };
    }
    if (!options.users.includes(String(claims.sub)) || claims.scope !== 'https://mail.google.com/') {
      return {
        error: 'unauthorized_client',
        error_description: 'Client is unauthorized for this method or scope.',
      };
    }
    this.accepted.push(claims);
    return { access_token: `ya29.${claims.sub}`, expires_in: 3_599, token_type: 'Bearer' };
  }
}
