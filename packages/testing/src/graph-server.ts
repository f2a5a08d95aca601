import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { HttpServer } from './http-server.ts';
import { type ParsedMail, parseMail } from './parse-mail.ts';

/**
 * An answer in place of the real one, the real one so many milliseconds later, or the end of the connection before or after the request
 * has had its effect.
 */
export type GraphInjection =
  | { readonly lateMs: number }
  | { readonly status: number; readonly code?: string; readonly headers?: Readonly<Record<string, string>> }
  | 'reset'
  | 'reset-after'
  | 'hang-after';

/** Who has a mailbox there, and what tokens allow. */
export interface GraphServerOptions {
  /** Users by object id; what they may send as besides themselves does not matter here. */
  readonly users: Readonly<Record<string, string>>;
  /** Says whether a bearer token is good. Default: any. */
  readonly accepts?: (token: string) => boolean;
  /** Application permissions. Default Mail.Send and Mail.ReadWrite. */
  readonly permissions?: readonly string[];
  /** Where attachments are to be sent. Default to this server. */
  readonly uploadBase?: string;
  /** How it spells what of an upload is to come: real services do it either way. Default with a small letter. */
  readonly rangesAs?: 'nextExpectedRanges' | 'NextExpectedRanges';
}

interface Draft {
  readonly id: string;
  readonly user: string;
  readonly mime: Buffer;
  isDraft: boolean;
  readonly attachments: {
    name: string;
    contentType: string;
    content: Buffer;
    contentId?: string;
    isInline: boolean;
  }[];
}

/** A message that was sent, as it came in, with what was attached to the draft. */
export interface GraphMail {
  readonly user: string;
  readonly mail: ParsedMail;
  readonly raw: Buffer;
  readonly attached: Draft['attachments'];
}

const requestLimit = 4 * 1_048_576;
const smallestUpload = 3_000_000;

/** The parts of Microsoft Graph that send mail, behaving as documented, on a loopback port. */
export class GraphServer implements AsyncDisposable {
  readonly sent: GraphMail[] = [];
  readonly drafts = new Map<string, Draft>();
  readonly #options: GraphServerOptions;
  #http: HttpServer | undefined;
  readonly #injected: { readonly path: RegExp; readonly what: GraphInjection }[] = [];
  readonly #uploads = new Map<
    string,
    {
      draft: Draft;
      item: { name: string; contentType?: string; size: number; contentId?: string; isInline?: boolean };
      parts: Buffer[];
      received: number;
    }
  >();
  #ids = 0;

  private constructor(options: GraphServerOptions) {
    this.#options = options;
  }

  static async start(options: GraphServerOptions): Promise<GraphServer> {
    const server = new GraphServer(options);
    server.#http = await HttpServer.start((request, response) => {
      server.#handle(request, response).catch(() => response.destroy());
    });
    return server;
  }

  get #server(): HttpServer {
    if (!this.#http) throw new Error('not started');
    return this.#http;
  }

  get baseUrl(): string {
    return this.#server.url('/v1.0');
  }

  /** Method and path of every request. */
  get requests(): readonly string[] {
    return this.#server.requests;
  }

  /** The next request whose path fits gets this instead. */
  inject(path: RegExp, what: GraphInjection): void {
    this.#injected.push({ path, what });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request);
    const path = request.url ?? '';
    const at = this.#injected.findIndex((one) => one.path.test(`${request.method} ${path}`));
    const [injected] = at >= 0 ? this.#injected.splice(at, 1) : [];
    const what = injected?.what;
    if (typeof what === 'object' && 'status' in what) {
      answer(response, what.status, what.code, what.headers);
      return;
    }
    if (what === 'reset') {
      request.socket.destroy();
      return;
    }
    const effect = await this.#route(request, path, body);
    if (typeof what === 'object') await delay(what.lateMs);
    if (what === 'reset-after') request.socket.destroy();
    else if (what !== 'hang-after') effect(response);
  }

  /** Does what a request asks for, and returns how to answer it. */
  async #route(
    request: IncomingMessage,
    path: string,
    body: Buffer,
  ): Promise<(response: ServerResponse) => void> {
    const refuse = (status: number, code: string) => (response: ServerResponse) =>
      answer(response, status, code);
    const upload = /^\/upload\/(\d+)$/.exec(path);
    if (upload) return this.#upload(upload[1] ?? '', request, body);
    const [, token = ''] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? [];
    if (token === '' || this.#options.accepts?.(token) === false)
      return refuse(401, 'InvalidAuthenticationToken');
    if (body.length > requestLimit) return refuse(413, 'RequestEntityTooLarge');
    const [, user = '', rest = ''] = /^\/v1\.0\/users\/([^/?]+)(\/[^?]*)?/.exec(path) ?? [];
    const address = this.#options.users[decodeURIComponent(user)];
    if (address === undefined) return refuse(404, 'ErrorInvalidUser');
    const may = (permission: string): boolean =>
      (this.#options.permissions ?? ['Mail.Send', 'Mail.ReadWrite']).includes(permission);

    if (rest === '/sendMail') {
      if (!may('Mail.Send')) return refuse(403, 'ErrorAccessDenied');
      const mime = fromBase64(body);
      if (!mime) return refuse(400, 'ErrorMimeContentInvalidBase64String');
      await this.#take({ user, mime, attachments: [] });
      return (response) => response.writeHead(202, { 'request-id': `request-${++this.#ids}` }).end();
    }
    if (!may('Mail.ReadWrite')) return refuse(403, 'ErrorAccessDenied');
    if (rest === '/messages' && request.method === 'POST') {
      const mime = fromBase64(body);
      if (!mime) return refuse(400, 'ErrorMimeContentInvalidBase64String');
      const draft: Draft = { id: `draft-${++this.#ids}`, user, mime, isDraft: true, attachments: [] };
      this.drafts.set(draft.id, draft);
      return (response) => json(response, 201, { id: draft.id, isDraft: true });
    }
    const [, id = '', action = ''] = /^\/messages\/([^/]+)(\/.*)?$/.exec(rest) ?? [];
    const draft = this.drafts.get(id);
    if (!draft) return refuse(404, 'ErrorItemNotFound');
    if (action === '' && request.method === 'GET') {
      return (response) => json(response, 200, { id, isDraft: draft.isDraft });
    }
    if (action === '' && request.method === 'DELETE') {
      this.drafts.delete(id);
      return (response) => response.writeHead(204).end();
    }
    if (action === '/attachments') return this.#attach(draft, JSON.parse(body.toString()));
    if (action === '/attachments/createUploadSession') {
      const item = JSON.parse(body.toString()).AttachmentItem;
      if (item.size < smallestUpload) return refuse(400, 'ErrorAttachmentSizeShouldNotBeLessThanMinimumSize');
      const key = `${++this.#ids}`;
      this.#uploads.set(key, { draft, item, parts: [], received: 0 });
      const { uploadBase = this.#server.url('') } = this.#options;
      return (response) => json(response, 201, { uploadUrl: `${uploadBase}/upload/${key}` });
    }
    if (action === '/send') {
      draft.isDraft = false;
      await this.#take(draft);
      return (response) => response.writeHead(202, { 'request-id': `request-${++this.#ids}` }).end();
    }
    return refuse(404, 'ResourceNotFound');
  }

  #attach(
    draft: Draft,
    given: {
      name: string;
      contentType?: string;
      contentBytes: string;
      contentId?: string;
      isInline?: boolean;
    },
  ): (response: ServerResponse) => void {
    const { name, contentType = '', contentBytes, contentId, isInline = false } = given;
    const content = Buffer.from(contentBytes, 'base64');
    draft.attachments.push({
      name,
      contentType,
      content,
      isInline,
      ...(contentId !== undefined && { contentId }),
    });
    return (response) => json(response, 201, { id: `attachment-${++this.#ids}` });
  }

  #upload(key: string, request: IncomingMessage, body: Buffer): (response: ServerResponse) => void {
    const upload = this.#uploads.get(key);
    const [, from, , total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(request.headers['content-range'] ?? '') ?? [];
    const fits =
      upload !== undefined &&
      request.headers.authorization === undefined &&
      request.headers['content-type'] === 'application/octet-stream' &&
      Number(from) === upload.received &&
      Number(total) === upload.item.size;
    if (!fits) return (response) => answer(response, 400, 'ErrorInvalidRequest');
    upload.parts.push(body);
    upload.received += body.length;
    if (upload.received < upload.item.size) {
      const { rangesAs = 'nextExpectedRanges' } = this.#options;
      return (response) => json(response, 200, { [rangesAs]: [`${upload.received}-`] });
    }
    const { name, contentType = '', contentId, isInline = false } = upload.item;
    const content = Buffer.concat(upload.parts);
    upload.draft.attachments.push({ name, contentType, content, isInline, ...(contentId && { contentId }) });
    return (response) => response.writeHead(201, { location: 'attachment' }).end();
  }

  async #take({ user, mime, attachments }: Pick<Draft, 'user' | 'mime' | 'attachments'>): Promise<void> {
    this.sent.push({ user, raw: mime, mail: await parseMail(mime), attached: attachments });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http?.[Symbol.asyncDispose]();
  }
}

function fromBase64(body: Buffer): Buffer | undefined {
  const text = body.toString('latin1');
  return /^[A-Za-z0-9+/]+={0,2}$/.test(text) ? Buffer.from(text, 'base64') : undefined;
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function answer(
  response: ServerResponse,
  status: number,
  code: string | undefined,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', 'request-id': 'refused', ...headers });
  response.end(code === undefined ? '' : JSON.stringify({ error: { code, message: `${code} happened.` } }));
}
