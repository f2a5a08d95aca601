import type { AuthProvider } from '@flowpost/auth-providers';
import {
  anySignal,
  httpsCertificateHints,
  isMailError,
  type Login,
  MailError,
  type Phase,
  portOf,
  type TranscriptListener,
  withoutBrackets,
} from '@flowpost/core';
import {
  connectionFailure,
  type Endpoint,
  firstOf,
  isHandshakeFailure,
} from '../diagnosis/connection-failure.ts';
import { formsOf, secretScrubber } from '../scrub.ts';
import { describeLoss } from '../smtp/session-failure.ts';
import { tell } from '../smtp/transcript.ts';
import { graphRefusal, leave, readAnswer } from './graph-failure.ts';

export interface GraphRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Below the user, as in `/sendMail`. */
  readonly path: string;
  readonly body?: string | undefined;
  readonly contentType?: string | undefined;
  /** What an answer that is not the expected one is about. Default `envelope`: nothing has been sent yet. */
  readonly phase?: Phase | undefined;
  /** The one status that means success. */
  readonly expect: number;
  /** The permission it needs, for the error when it is missing. */
  readonly permission: 'Mail.Send' | 'Mail.ReadWrite';
  /** How long to wait for the answer, in milliseconds. */
  readonly limitMs: number;
}

export interface GraphApiOptions {
  readonly baseUrl: string;
  readonly user: string;
  readonly provider: AuthProvider;
  readonly fetch: typeof globalThis.fetch;
  readonly scrubbers: TokenScrubbers;
}

/** What takes a token out of texts: made once for each token, because tokens are long. */
export class TokenScrubbers {
  #token = '';
  #scrubber = secretScrubber([]);

  of(token: string): (text: string) => string {
    if (token !== this.#token) {
      this.#token = token;
      this.#scrubber = secretScrubber(formsOf(token));
    }
    return this.#scrubber;
  }
}

/** Failures that happen before a request is on its way. */
const beforeRequest = new Set([
  'ADDRESS_REFUSED',
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  // No socket was to be had.
  'EADDRNOTAVAIL',
  'EADDRINUSE',
  'EMFILE',
  'ENFILE',
  'EACCES',
]);

/** Where Exchange Online takes uploads, in all its clouds. */
const uploadHosts = /\.(?:office|office365|outlook|microsoft)\.(?:com|us|cn|de)$/;

interface Types {
  readonly string: string;
  readonly boolean: boolean;
}

/** An answer that is none of Graph's. Nothing has been sent. */
const unexpected = (what: string): MailError =>
  new MailError('PROTOCOL_VIOLATED', `Microsoft Graph gave an answer ${what}.`, {
    phase: 'envelope',
    hint: 'Check that graphBaseUrl, where one is given, is that of Microsoft Graph.',
  });

function endpointOf(text: string): Endpoint {
  const url = new URL(text);
  return { host: withoutBrackets(url.hostname), port: portOf(url) };
}

function reasonOf(thrown: unknown): { readonly cause: unknown; readonly code: string } {
  const cause = (thrown as { cause?: unknown }).cause ?? thrown;
  const first = firstOf(cause);
  const code = String((first as { code?: unknown })?.code ?? '');
  // What has no code of the system may repeat what was to be sent.
  return { cause: code === '' ? new Error('the request failed') : first, code };
}

/** Requests to Graph about one user's mail: with a token, within time, and with failures that say how far they got. */
export class GraphApi {
  readonly #options: GraphApiOptions;
  readonly #signal: AbortSignal | undefined;
  readonly #transcript: TranscriptListener | undefined;
  #scrubber = secretScrubber([]);

  constructor(
    options: GraphApiOptions,
    signal: AbortSignal | undefined,
    transcript: TranscriptListener | undefined,
  ) {
    this.#options = options;
    this.#signal = signal;
    this.#transcript = transcript;
  }

  /** What to do about a host that cannot be reached: where Graph itself has attachments sent, nobody has misspelt it. */
  #hintsAt(url: string): typeof httpsCertificateHints {
    if (new URL(url).origin === new URL(this.#options.baseUrl).origin) return httpsCertificateHints;
    const hint =
      'Microsoft Graph has large attachments sent to this host. Have firewall, proxy and DNS let it through, as they do graph.microsoft.com.';
    const unreachable = [
      'HOST_NOT_FOUND',
      'CONNECTION_REFUSED',
      'CONNECTION_UNREACHABLE',
      'CONNECTION_TIMED_OUT',
    ];
    return { ...httpsCertificateHints, ...Object.fromEntries(unreachable.map((code) => [code, hint])) };
  }

  /** Takes the token out of what a server says. */
  readonly scrub = (text: string): string => this.#scrubber(text);

  /**
   * One request. A token that is refused is replaced once.
   *
   * @throws MailError
   */
  async request(request: GraphRequest): Promise<Response> {
    for (let fresh = false; ; fresh = true) {
      const login = await this.#options.provider.login(this.#signal);
      if (login.kind === 'bearer') this.#scrubber = this.#options.scrubbers.of(login.token.reveal());
      const response = await this.#fetch(request, login);
      if (response.status === request.expect) return response;
      const isStale = response.status === 401 && !fresh;
      if (!isStale)
        throw await graphRefusal(response, request.phase ?? 'envelope', request.permission, this.scrub);
      await leave(response);
      await this.#options.provider.invalidate(login);
    }
  }

  async #fetch(
    { method, path, body, contentType, phase, limitMs }: GraphRequest,
    login: Login,
  ): Promise<Response> {
    const url = `${this.#options.baseUrl}/users/${encodeURIComponent(this.#options.user)}${path}`;
    const token = login.kind === 'bearer' ? login.token.reveal() : '';
    const headers = {
      authorization: `Bearer ${token}`,
      // The id of a draft stays its id when it is sent, so that one can look for it.
      prefer: 'IdType="ImmutableId"',
      ...(contentType !== undefined && { 'content-type': contentType }),
    };
    return this.send(
      url,
      { method, headers, ...(body !== undefined && { body }) },
      phase ?? 'envelope',
      limitMs,
    );
  }

  /**
   * One member of the object that an answer is.
   *
   * @throws MailError also when it is none, or not of that type.
   */
  async member<Name extends keyof Types>(response: Response, name: string, type: Name): Promise<Types[Name]> {
    const answer = await readAnswer(response).catch((thrown) => {
      throw this.#describe(thrown, 'envelope', response.url || this.#options.baseUrl);
    });
    const value = answer[name];
    if (typeof value === type) return value as Types[Name];
    throw unexpected(`without ${name}`);
  }

  /**
   * A server must not have us send to any address it likes: uploads go where Graph itself is, or to Microsoft.
   *
   * @throws MailError
   */
  assertUpload(url: string): void {
    const { origin } = new URL(this.#options.baseUrl);
    const target = URL.canParse(url) ? new URL(url) : undefined;
    if (target?.origin === origin) return;
    if (target?.protocol === 'https:' && uploadHosts.test(target.hostname)) return;
    throw unexpected('that names another place for attachments');
  }

  /** A request as it is, without a token of its own. */
  async send(url: string, init: RequestInit, phase: Phase, limitMs: number): Promise<Response> {
    const late = AbortSignal.timeout(limitMs);
    const signal = anySignal(this.#signal, late);
    const { body } = init;
    const size = typeof body === 'string' ? ` (${body.length} bytes)` : '';
    tell(this.#transcript, { from: 'client', text: `${init.method} ${new URL(url).pathname}${size}` });
    try {
      const response = await this.#options.fetch(url, { ...init, signal, redirect: 'manual' });
      const text = this.scrub(`${response.status} ${response.statusText}`);
      tell(this.#transcript, { from: 'server', text });
      if (response.status < 300 || response.status > 399) return response;
      await response.body?.cancel().catch(() => undefined);
      throw this.#elsewhere(response.status, url);
    } catch (thrown) {
      throw this.#describe(thrown, phase, url);
    }
  }

  /** Graph sends nobody elsewhere: this is a portal one has to log in to, or another server. It has sent nothing. */
  #elsewhere(status: number, url: string): MailError {
    const { host, port } = endpointOf(url);
    return new MailError('CONNECTION_LOST', `${host}:${port}: the request was to go elsewhere (${status}).`, {
      ...{ phase: 'envelope', details: { host, port, status } },
      hint: 'Something on the way, or graphBaseUrl where one is given, is not Microsoft Graph. Check both, and try again.',
    });
  }

  #describe(thrown: unknown, phase: Phase, url: string): MailError {
    if (isMailError(thrown)) return thrown;
    const { cause, code } = reasonOf(thrown);
    const isCancelled = this.#signal?.aborted === true;
    // What never reached the server cannot have had an effect.
    const isHandshake = isHandshakeFailure(code);
    if ((isHandshake || beforeRequest.has(code)) && !isCancelled) {
      const at = code === 'ENOTFOUND' || code.startsWith('EAI') ? 'resolve' : 'connect';
      return connectionFailure(cause, isHandshake ? 'tls' : at, endpointOf(url), this.#hintsAt(url));
    }
    const context = { ...endpointOf(url), signal: this.#signal, scrub: this.scrub };
    return describeLoss(cause, phase, context);
  }
}
