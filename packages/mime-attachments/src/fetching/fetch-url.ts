import { pipeline } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import {
  anySignal,
  cancellationOf,
  certificateReasons,
  type ErrorCode,
  httpsCertificateHints,
  isCertificateReason,
  isLaterStatus,
  isLoopbackHost,
  isMailError,
  portOf,
  retryAfterMs,
} from '@flowpost/core';
import {
  type AttachmentContext,
  type AttachmentSource,
  attachmentError,
  checkSize,
  type StreamedContent,
} from '../attachment-source.ts';
import { declaredType, sampleBytes } from '../content-type.ts';
import { AddressGuard, literalAddress } from './address-guard.ts';
import { FetchBudget } from './fetch-budget.ts';
import {
  AddressRefused,
  type AgentResponse,
  createGuardedAgent,
  type GuardedAgent,
} from './guarded-agent.ts';
import { asUtf8, responseName } from './response-name.ts';
import { inMemoryLimit, spool } from './spool.ts';

/** A URL as it may be shown: what stands behind the ? may be a secret. */
const shown = (url: URL): string => `${url.origin}${url.pathname}`;

/** Types that say no more than that it is a download. */
const saysNothing =
  /^(?:application\/(?:octet-stream|x-download|force-download|download)|binary\/octet-stream)\b/i;

const decoders: Readonly<Record<string, () => NodeJS.ReadWriteStream>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

/** Parses a URL and refuses what the policy does not allow, before anything is looked up or connected. */
function checkUrl(text: string, base: URL | undefined, guard: AddressGuard, context: AttachmentContext): URL {
  const refuse = (why: string) => attachmentError('ATTACHMENT_URL_REFUSED', `${why}.`, context);
  const { urls } = context.policy;
  const where = base ? 'the URL it was redirected to' : 'its URL';
  if (!URL.canParse(text, base?.href)) throw refuse(`${where} cannot be understood`);
  const url = new URL(text, base);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw refuse(`${where} is neither http nor https`);
  if (url.username !== '' || url.password !== '') throw refuse(`${where} contains a user name or password`);
  const port = portOf(url);
  if (!urls.allowedPorts.includes(port) && !guard.allowsPort(url.hostname, port))
    throw refuse(`port ${port} of ${where} is not allowed`);
  // A name of this machine needs no lookup to be known as one, and an address has none that could check it.
  const address = literalAddress(url.hostname);
  const addresses =
    address !== undefined ? [address] : isLoopbackHost(url.hostname) ? ['127.0.0.1', '::1'] : [];
  if (addresses.length > 0 && !addresses.some((one) => guard.allows(url.hostname, one, port))) {
    throw refuse(`${url.hostname} in ${where} is not a public address`);
  }
  return url;
}

const byReason: Readonly<Record<string, ErrorCode>> = {
  ENOTFOUND: 'ATTACHMENT_NOT_FOUND',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'ATTACHMENT_TRUNCATED',
  Z_BUF_ERROR: 'ATTACHMENT_TRUNCATED',
  Z_DATA_ERROR: 'ATTACHMENT_UNREADABLE',
  UND_ERR_HEADERS_OVERFLOW: 'ATTACHMENT_UNREADABLE',
};
const messages: Partial<Record<ErrorCode, string>> = {
  ATTACHMENT_NOT_FOUND: 'there is no such host',
  ATTACHMENT_TRUNCATED: 'the answer was broken off',
  ATTACHMENT_UNREADABLE: 'what the server answers cannot be read',
};
const worthAnotherTry = new Set<ErrorCode>([
  'ATTACHMENT_UNREACHABLE',
  'ATTACHMENT_TIMED_OUT',
  'ATTACHMENT_TRUNCATED',
  'SEND_TIMED_OUT',
]);

/** Any failure of a fetch, as an error about the attachment. */
function describe(
  cause: unknown,
  url: URL,
  started: boolean,
  deadline: AbortSignal,
  context: AttachmentContext,
) {
  // Whoever gives up may do so with an error of ours, about something else.
  if (isMailError(cause) && cause !== context.signal?.reason) return cause;
  const fail = (code: ErrorCode, message: string, details = {}, hint?: string) =>
    attachmentError(code, `${message}.`, context, {
      details: { url: shown(url), ...details },
      hint,
      retryable: worthAnotherTry.has(code),
      cause,
    });
  if (context.signal?.aborted) {
    const { code, message } = cancellationOf(context.signal);
    return fail(code, message);
  }
  if (deadline.aborted) return fail('ATTACHMENT_TIMED_OUT', 'fetching it took longer than allowed');
  if (cause instanceof AddressRefused) return fail('ATTACHMENT_URL_REFUSED', cause.message);
  const { code: reason = 'unknown', syscall } = cause as NodeJS.ErrnoException;
  if (syscall === 'open' || syscall === 'write') {
    return fail('ATTACHMENT_UNREADABLE', `it could not be kept in a temporary file (${reason})`, { reason });
  }
  if (isCertificateReason(reason)) {
    const hint = httpsCertificateHints[certificateReasons[reason] ?? 'TLS_CERTIFICATE_UNTRUSTED'];
    const what = `the TLS certificate of the server cannot be trusted (${reason})`;
    return fail('ATTACHMENT_UNREADABLE', what, { reason }, hint);
  }
  const isBroken =
    (cause as Error).name === 'HTTPParserError' || /^(?:HPE_|ERR__ERROR_|ERR_BROTLI_|ERR_SSL_)/.test(reason);
  const code = isBroken
    ? 'ATTACHMENT_UNREADABLE'
    : (byReason[reason] ?? (started ? 'ATTACHMENT_TRUNCATED' : 'ATTACHMENT_UNREACHABLE'));
  return fail(code, `${messages[code] ?? 'the server cannot be reached'} (${reason})`, { reason });
}

const loginHint =
  'The server does not give it to everybody, or the link has expired. Use a link that works without a login, or a new one. Nothing was sent.';

/** What an answer other than 200 means. */
function refusedAnswer(response: AgentResponse, url: URL, context: AttachmentContext) {
  const { statusCode: status } = response;
  const isLater = isLaterStatus(status);
  const retryAfter = retryAfterMs({ get: (name) => header(response, name) ?? null }, Date.now());
  const code = isLater
    ? 'ATTACHMENT_UNREACHABLE'
    : status === 401 || status === 403
      ? 'ATTACHMENT_ACCESS_DENIED'
      : status === 404 || status === 410
        ? 'ATTACHMENT_NOT_FOUND'
        : 'ATTACHMENT_UNREADABLE';
  return attachmentError(code, `the server answered ${status}.`, context, {
    details: {
      ...{ url: shown(url), status },
      ...(isLater && retryAfter !== undefined && { retryAfterMs: retryAfter }),
    },
    retryable: isLater,
    hint: code === 'ATTACHMENT_ACCESS_DENIED' ? loginHint : undefined,
  });
}

function header(response: AgentResponse, name: string): string | undefined {
  return [response.headers[name] ?? []].flat()[0];
}

/** The content in the clear, whatever encoding the server chose although we asked for none. */
function decoded(
  response: AgentResponse,
  { filename, contentType }: Pick<AttachmentSource, 'filename' | 'contentType'>,
  url: URL,
  context: AttachmentContext,
): AsyncIterable<Uint8Array> {
  const encoding = header(response, 'content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return response.body;
  // A server that takes the end of a file's name for an encoding means the file, which is packed as it is.
  const isPacked = /\.t?gz$/i.test(filename ?? '') || /^application\/(?:x-)?gzip\b/i.test(contentType ?? '');
  if (isPacked && /^(?:x-)?gzip$/.test(encoding)) return response.body;
  const create = Object.hasOwn(decoders, encoding) ? decoders[encoding] : undefined;
  if (!create) {
    throw attachmentError('ATTACHMENT_UNREADABLE', 'it comes in an encoding that is not known.', context, {
      details: { url: shown(url), encoding: encoding.slice(0, 50) },
    });
  }
  return pipeline(response.body, create(), () => undefined) as NodeJS.ReadWriteStream & AsyncIterable<Buffer>;
}

/** A fetch under way: what its answer is read with, and how its failures are told. */
interface Fetch {
  readonly url: URL;
  readonly agent: GuardedAgent;
  readonly budget: FetchBudget;
  readonly context: AttachmentContext;
  readonly fail: (cause: unknown) => Error;
}

/** Passes an answer of known length on as it comes in. It can be read once; its first bytes are here already. */
async function streamResponse(response: AgentResponse, size: number, fetch: Fetch): Promise<StreamedContent> {
  const { agent, budget, fail, context } = fetch;
  const chunks = (response.body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  const next = async (): Promise<Buffer | undefined> => {
    budget.start();
    try {
      const { value, done } = await chunks.next();
      return done ? undefined : value;
    } catch (cause) {
      throw fail(cause);
    } finally {
      budget.pause();
    }
  };
  let sample = Buffer.alloc(0);
  while (sample.length < Math.min(size, sampleBytes)) {
    const chunk = await next();
    if (!chunk) break;
    sample = Buffer.concat([sample, chunk]);
  }
  const truncated = () =>
    attachmentError('ATTACHMENT_TRUNCATED', 'the answer was broken off.', context, { retryable: true });
  async function* open(): AsyncGenerator<Buffer> {
    let read = 0;
    for (let chunk: Buffer | undefined = sample; chunk; chunk = await next()) {
      read += chunk.length;
      yield chunk;
    }
    if (read !== size) throw truncated();
  }
  return { size, sample, open, release: () => agent.destroy() };
}

async function readResponse(response: AgentResponse, fetch: Fetch): Promise<AttachmentSource> {
  const { url, context } = fetch;
  const { temporaryFolder } = context.policy;
  const declared = declaredType(header(response, 'content-type') ?? '');
  const contentType = declared !== undefined && !saysNothing.test(declared) ? declared : undefined;
  const filename = responseName(header(response, 'content-disposition'), url, contentType);
  const named = {
    ...(filename !== undefined && { filename }),
    ...(contentType !== undefined && { contentType }),
  };
  const chunks = decoded(response, named, url, context);
  const announced = Number(header(response, 'content-length') ?? Number.NaN);
  const isExact = chunks === response.body && announced >= 0;
  if (isExact) checkSize(announced, context);
  const content =
    isExact && announced > inMemoryLimit && !context.whole
      ? await streamResponse(response, announced, fetch)
      : await spool(chunks, temporaryFolder, (size) => checkSize(size, context));
  return { content, ...named };
}

/**
 * Fetches an attachment over http or https. Every URL on the way is checked against the policy, the first like the
 * last. A small one, one of unknown length, and one that must be read twice or later are here as a whole before this returns; a
 * large one is passed on as it comes in, and its failures then end the message before its end was handed over.
 *
 * @throws MailError `ATTACHMENT_URL_REFUSED`, `ATTACHMENT_NOT_FOUND`, `ATTACHMENT_ACCESS_DENIED`,
 * `ATTACHMENT_TOO_LARGE`, `ATTACHMENT_TRUNCATED`, `ATTACHMENT_TIMED_OUT`, `ATTACHMENT_UNREACHABLE`,
 * `ATTACHMENT_UNREADABLE`, or what the caller's signal means.
 */
export async function fetchUrl(text: string, context: AttachmentContext): Promise<AttachmentSource> {
  const { policy } = context;
  const guard = new AddressGuard(policy.urls.allowedHosts ?? []);
  let url = checkUrl(text, undefined, guard, context);
  let started = false;
  const budget = new FetchBudget(policy.urls.timeoutMs);
  const signal = anySignal(context.signal, budget.signal);
  const fail = (cause: unknown) => describe(cause, url, started, budget.signal, context);
  const agent = await createGuardedAgent(guard, policy, signal);
  let isOpen = false;
  try {
    for (let redirects = 0; ; redirects++) {
      budget.start();
      const response = await agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: 'GET',
        headers: { 'accept-encoding': 'identity', accept: '*/*', 'user-agent': 'flowpost' },
        signal,
      });
      started = true;
      const { statusCode } = response;
      const location = header(response, 'location');
      if (statusCode === 200) {
        const source = await readResponse(response, { url, agent, budget, context, fail });
        isOpen = !Buffer.isBuffer(source.content) && source.content.sample !== undefined;
        return source;
      }
      response.body.on('error', () => undefined).destroy();
      if (statusCode < 300 || statusCode > 399 || location === undefined) {
        throw refusedAnswer(response, url, context);
      }
      if (redirects === policy.urls.maxRedirects) {
        const message = `it was redirected more than ${redirects} times.`;
        throw attachmentError('ATTACHMENT_UNREADABLE', message, context);
      }
      url = checkUrl(asUtf8(location), url, guard, context);
      started = false;
    }
  } catch (cause) {
    throw fail(cause);
  } finally {
    budget.pause();
    if (!isOpen) await agent.destroy();
  }
}
