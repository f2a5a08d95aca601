import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionInput, type EmailMessageInput, MailError, type SendOptions } from '@flowpost/core';
import { GraphServer, type GraphServerOptions, OAuthServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { withRetry } from '../guards/retry.ts';
import { verifyConnection } from '../verify/verify-connection.ts';

const secret = 'client-S3cret-value';
const objectId = '11111111-2222-3333-4444-555555555555';
const message = {
  from: 'Me <me@x.org>',
  to: 'b@x.org',
  subject: 'Grüße',
  text: 'Hello',
} satisfies EmailMessageInput;
const fast = { connectMs: 2_000, greetingMs: 2_000, commandMs: 2_000, dataMs: 2_000, confirmMs: 500 };

let issuer: OAuthServer;
let folder: string;
beforeAll(async () => {
  const audience = 'https://graph.microsoft.com';
  issuer = await OAuthServer.start({
    secrets: { app: secret },
    roles: ['Mail.Send', 'Mail.ReadWrite'],
    audience,
  });
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
});
afterAll(async () => {
  await issuer[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const connectionTo = (graph: GraphServer, more: object = {}): ConnectionInput =>
  ({
    kind: 'microsoft365',
    delivery: 'graph',
    tenantId: 'tenant',
    objectId,
    graphBaseUrl: graph.baseUrl,
    timeouts: fast,
    auth: {
      kind: 'oauth2-client-credentials',
      user: 'me@x.org',
      tokenEndpoint: issuer.tokenEndpoint,
      clientId: 'app',
      clientSecret: secret,
    },
    ...more,
  }) as ConnectionInput;

const start = (options: Partial<GraphServerOptions> = {}) =>
  GraphServer.start({ users: { [objectId]: 'me@x.org' }, ...options });

async function send(
  graph: GraphServer,
  change: Partial<EmailMessageInput> = {},
  options: SendOptions = {},
  more = {},
) {
  await using sender = createSender(connectionTo(graph, more), {
    attachments: { fileRoots: [folder], baseFolder: folder },
  });
  return await sender.send({ ...message, ...change }, options);
}
const failure = (sending: Promise<unknown>) =>
  sending.then(
    () => {
      throw new Error('sent');
    },
    (error) => {
      expect(JSON.stringify(error)).not.toMatch(/eyJ|S3cret/);
      expect(error.hint).toMatch(/\.$/);
      return error;
    },
  );

describe('a message that fits into one request', () => {
  it('says that nobody was asked for delivery notifications', async () => {
    await using graph = await start();
    const receipt = await send(graph, {}, { dsn: { notify: ['failure'] } });
    expect(receipt).toMatchObject({ status: 'sent', notifications: 'not-offered' });
  });

  it('goes as MIME, Bcc included, and 202 is success', async () => {
    await using graph = await start();
    const receipt = await send(graph, {
      cc: 'c@x.org',
      bcc: 'secret@x.org',
      html: '<p>Hi</p>',
      inReplyTo: '<1@x.org>',
      unsubscribe: { url: 'https://x.org/u' },
      attachments: [{ kind: 'text', content: 'a,b', filename: 'Größe.csv' }],
    });
    expect(receipt).toMatchObject({
      status: 'sent',
      accepted: ['b@x.org', 'c@x.org', 'secret@x.org'],
      response: '202 Accepted',
      serverMessageId: expect.stringContaining('request-'),
      attempts: 1,
    });
    const [sent] = graph.sent;
    expect(sent?.mail).toMatchObject({ subject: 'Grüße', messageId: receipt.messageId });
    expect(sent?.mail.bcc).toEqual([{ name: '', address: 'secret@x.org' }]);
    expect(sent?.mail.attachments.map(({ filename }) => filename)).toEqual(['Größe.csv']);
    expect(sent?.raw.toString()).toContain('List-Unsubscribe-Post: List-Unsubscribe=One-Click');
    expect(graph.requests).toEqual([`POST /v1.0/users/${objectId}/sendMail`]);
  });

  it('many use one token', async () => {
    await using graph = await start();
    const before = issuer.requests.length;
    await using sender = createSender(connectionTo(graph));
    await Promise.all(Array.from({ length: 10 }, () => sender.send(message)));
    expect([graph.sent.length, issuer.requests.length - before]).toEqual([10, 1]);
  });

  it('a token that is refused is replaced once', async () => {
    const seen = new Set<string>();
    await using graph = await start({
      accepts: (token) => {
        seen.add(token);
        return seen.size > 1;
      },
    });
    expect((await send(graph)).status).toBe('sent');
    await using closed = await start({ accepts: () => false });
    const error = await failure(send(closed));
    expect(error).toMatchObject({ code: 'AUTH_REFUSED', phase: 'auth', retryable: false });
    expect(closed.requests).toHaveLength(2);
  });
});

describe('a large message', () => {
  it.each(['nextExpectedRanges', 'NextExpectedRanges'] as const)(
    'goes as a draft with uploads, exact to the byte, where %s are told',
    async (rangesAs) => {
      await using graph = await start({ rangesAs });
      const large = randomBytes(7_000_001);
      const middling = randomBytes(1_000_000);
      await writeFile(join(folder, 'large.bin'), large);
      const seen: string[] = [];
      const receipt = await send(
        graph,
        {
          html: '<img src="cid:pic">',
          bcc: 'secret@x.org',
          attachments: [
            { kind: 'file', path: 'large.bin' },
            { kind: 'bytes', content: middling, filename: 'pic.png', contentId: 'pic' },
            { kind: 'mime', raw: 'Content-Type: text/x-log\r\nContent-Disposition: attachment\r\n\r\nx' },
          ],
        },
        { beforeData: () => void seen.push(`sent before: ${graph.sent.length}`) },
      );
      expect(receipt.status).toBe('sent');
      const [sent] = graph.sent;
      expect(sent?.attached.map(({ name, isInline, contentId }) => [name, isInline, contentId])).toEqual([
        ['large.bin', false, undefined],
        ['pic.png', true, 'pic'],
      ]);
      expect(sent?.attached[0]?.content.equals(large)).toBe(true);
      expect(sent?.attached[1]?.content.equals(middling)).toBe(true);
      expect(sent?.mail).toMatchObject({ subject: 'Grüße', messageId: receipt.messageId });
      expect(graph.requests.filter((request) => request.startsWith('PUT'))).toHaveLength(3);
      expect(seen).toEqual(['sent before: 0']);
    },
  );

  const big = {
    attachments: [{ kind: 'bytes' as const, content: randomBytes(3_500_000), filename: 'a.bin' }],
  };

  it.each([1_400_000, 1_500_000, 1_560_000, 1_700_000])(
    'whose text makes it large goes as one with attachments does: a file of %d bytes',
    async (size) => {
      await using graph = await start();
      const content = randomBytes(size);
      const html = `<p>${'a line of text<br>\n'.repeat(40_000)}</p>`;
      const attachments = [{ kind: 'bytes' as const, content, filename: 'a.bin' }];
      expect(await send(graph, { html, attachments })).toMatchObject({ status: 'sent' });
      const [sent] = graph.sent;
      expect(sent?.attached.map(({ name }) => name)).toEqual(['a.bin']);
      expect(sent?.attached[0]?.content.equals(content)).toBe(true);
      expect(sent?.mail.attachments).toEqual([]);
    },
  );

  it.each([
    ['a draft that the service has touched', /\/send$/, { status: 412, code: 'ErrorIrresolvableConflict' }],
    ['a range that does not fit any more', /^PUT/, { status: 416, code: 'InvalidRange' }],
  ])('%s is no reason to give up, and another one goes', async (_, path, answer) => {
    await using graph = await start();
    graph.inject(path, answer);
    expect(await failure(send(graph, big))).toMatchObject({
      code: 'MESSAGE_DEFERRED',
      retryable: true,
      inDoubt: false,
    });
    expect([graph.sent.length, graph.drafts.size]).toEqual([0, 0]);
    expect((await send(graph, big)).status).toBe('sent');
  });

  it.each([
    ['without a time', {}],
    ['with one', { 'retry-after': '1' }],
  ])('leaves no draft behind although it cannot be taken away at once, %s', async (_, headers) => {
    await using graph = await start();
    graph.inject(/^PUT/, { status: 503, code: 'ServiceUnavailable', headers });
    graph.inject(/^DELETE/, { status: 503, code: 'ServiceUnavailable', headers });
    await failure(send(graph, big));
    expect([graph.sent.length, graph.drafts.size]).toEqual([0, 0]);
  });

  it('says where attachments are sent when that cannot be reached', async () => {
    await using graph = await start({ uploadBase: 'https://outlook.office.com' });
    const fetch: typeof globalThis.fetch = (url, init) =>
      init?.method === 'PUT'
        ? Promise.reject(
            Object.assign(new TypeError('fetch failed'), {
              cause: Object.assign(new Error('no'), { code: 'ENOTFOUND' }),
            }),
          )
        : globalThis.fetch(url, init);
    await using sender = createSender(connectionTo(graph), { auth: { fetch } });
    const error = await failure(sender.send({ ...message, ...big }));
    expect(error).toMatchObject({
      ...{ code: 'HOST_NOT_FOUND', details: { host: 'outlook.office.com' } },
      hint: expect.stringContaining('firewall'),
    });
  });

  it('says when Mail.ReadWrite is missing', async () => {
    await using graph = await start({ permissions: ['Mail.Send'] });
    const error = await failure(send(graph, big));
    expect(error).toMatchObject({
      code: 'GRAPH_PERMISSION_MISSING',
      retryable: false,
      details: { permission: 'Mail.ReadWrite' },
    });
    expect(graph.sent).toEqual([]);
  });

  it('whose upload fails sends nothing, and leaves no draft behind', async () => {
    await using graph = await start();
    graph.inject(/^PUT/, { status: 503, code: 'ServiceUnavailable', headers: { 'retry-after': '7' } });
    const error = await failure(send(graph, big));
    expect(error).toMatchObject({
      code: 'MESSAGE_DEFERRED',
      retryable: true,
      inDoubt: false,
      details: { retryAfterMs: 7_000 },
    });
    expect([graph.sent.length, graph.drafts.size]).toEqual([0, 0]);
  });

  it('whose last answer is lost is looked for: what is found to be sent is sent', async () => {
    await using graph = await start();
    graph.inject(/\/send$/, 'reset-after');
    expect((await send(graph, big)).response).toBe('202 found to be sent');
  });

  it('whose last answer is lost and which is a draft still stays in doubt: it may be sent any moment', async () => {
    await using graph = await start();
    graph.inject(/\/send$/, 'reset');
    await using sender = withRetry(createSender(connectionTo(graph)), { firstDelayMs: 1 });
    const error = await failure(sender.send({ ...message, ...big }));
    expect(error).toMatchObject({ code: 'DELIVERY_IN_DOUBT', inDoubt: true, retryable: false });
    expect([graph.drafts.size, graph.sent.length]).toEqual([1, 0]);
  });

  it('whose hook never ends is not waited for when time is up', async () => {
    await using graph = await start();
    const beforeData = () => new Promise<void>(() => undefined);
    for (const change of [{}, big]) {
      const error = await failure(send(graph, change, { beforeData, timeoutMs: 300 }));
      expect(error).toMatchObject({ code: 'SEND_TIMED_OUT', inDoubt: false });
    }
    // The draft is tidied away without anybody waiting for it.
    await expect.poll(() => [graph.drafts.size, graph.sent.length]).toEqual([0, 0]);
  });

  it('names a bad attachment by its place among all', async () => {
    await using graph = await start();
    const node = { kind: 'mime' as const, raw: 'Content-Type: text/x-log\r\n\r\nx' };
    const attachments = [node, { kind: 'base64' as const, content: '***' }];
    expect(await failure(send(graph, { attachments }))).toMatchObject({ details: { position: 2 } });
  });
});

describe('what goes wrong', () => {
  it.each<[number, string | undefined, string, boolean]>([
    [403, 'ErrorAccessDenied', 'GRAPH_PERMISSION_MISSING', false],
    [403, 'ErrorSendAsDenied', 'SENDER_REFUSED', false],
    [404, 'ErrorInvalidUser', 'MAILBOX_NOT_FOUND', false],
    [404, 'ResourceNotFound', 'MAILBOX_NOT_FOUND', false],
    [404, 'MailboxNotEnabledForRESTAPI', 'MAILBOX_NOT_FOUND', false],
    [400, 'ErrorInvalidRecipients', 'RECIPIENTS_REFUSED', false],
    [400, 'Whatever', 'MESSAGE_REFUSED', false],
    [413, 'ErrorMessageSizeExceeded', 'MESSAGE_TOO_LARGE', false],
    [429, 'ApplicationThrottled', 'MESSAGE_DEFERRED', true],
    [503, undefined, 'MESSAGE_DEFERRED', true],
  ])('%i %s is %s', async (status, graphCode, code, retryable) => {
    await using graph = await start();
    graph.inject(/sendMail/, {
      status,
      ...(graphCode && { code: graphCode }),
      headers: { 'retry-after': '3' },
    });
    const error = await failure(send(graph));
    expect(error).toMatchObject({
      code,
      retryable,
      inDoubt: false,
      details: { status, retryAfterMs: 3_000 },
    });
    expect(graph.sent).toEqual([]);
  });

  it('a server that repeats the token, shows it in no error', async () => {
    let seen = '';
    await using graph = await start({
      accepts: (token) => {
        seen = token;
        return true;
      },
    });
    await using sender = createSender(connectionTo(graph));
    await sender.send(message);
    graph.inject(/sendMail/, { status: 400, code: `Bad ${seen}` });
    const error = await failure(sender.send(message));
    expect(error.message).toContain('Bad ***');
    expect(JSON.stringify(error)).not.toContain(seen.slice(0, 20));
  });

  it('an unknown Object ID', async () => {
    await using graph = await start({ users: {} });
    expect(await failure(send(graph))).toMatchObject({
      code: 'MAILBOX_NOT_FOUND',
      category: 'configuration',
    });
  });

  it.each([200, 408, 500, 502, 503, 504])('%i leaves it in doubt', async (status) => {
    await using graph = await start();
    graph.inject(/sendMail/, { status });
    expect(await failure(send(graph))).toMatchObject({
      code: 'DELIVERY_IN_DOUBT',
      inDoubt: true,
      retryable: false,
    });
  });

  it.each(['reset-after', 'hang-after', 'reset'] as const)(
    '%s: in doubt, and not tried again',
    async (what) => {
      await using graph = await start();
      graph.inject(/sendMail/, what);
      await using sender = withRetry(createSender(connectionTo(graph)), { firstDelayMs: 1 });
      const error = await failure(sender.send(message));
      expect(error).toMatchObject({
        code: 'DELIVERY_IN_DOUBT',
        phase: 'confirm',
        inDoubt: true,
        details: { messageId: expect.any(String) },
      });
      expect(graph.sent.length).toBe(what === 'reset' ? 0 : 1);
      expect(graph.requests).toHaveLength(1);
    },
  );

  it.each([
    ['at once', 'text', /sendMail/, 'DELIVERY_IN_DOUBT'],
    ['as a draft', 'x'.repeat(2_500_000), /\/send$/, undefined],
  ])(
    'whoever gives up for the failure of another message leaves %s what it is',
    async (_, text, path, code) => {
      await using graph = await start();
      graph.inject(path, 'hang-after');
      const stop = new AbortController();
      const sending = send(graph, { text }, { signal: stop.signal }).catch((error) => error);
      await expect.poll(() => graph.sent.length).toBe(1);
      stop.abort(new MailError('CONNECTION_LOST', 'of another message', { phase: 'envelope' }));
      // Of the draft it can be found out.
      expect((await sending).code).toBe(code);
    },
  );

  it('a draft that is being made when the caller gives up is taken away', async () => {
    await using graph = await start();
    graph.inject(/POST .*messages$/, { lateMs: 200 });
    const stop = new AbortController();
    const sending = failure(send(graph, { text: 'x'.repeat(2_500_000) }, { signal: stop.signal }));
    await expect.poll(() => graph.requests.length).toBe(1);
    stop.abort();
    expect(await sending).toMatchObject({ code: 'SEND_CANCELLED', inDoubt: false });
    expect(graph.requests.some((one) => one.startsWith('DELETE'))).toBe(true);
    expect(graph.drafts.size).toBe(0);
  });

  it('a server that is not there is safe to try again', async () => {
    const graph = await start();
    const connection = connectionTo(graph);
    await graph[Symbol.asyncDispose]();
    await using sender = createSender(connection);
    expect(await failure(sender.send(message))).toMatchObject({
      code: 'CONNECTION_REFUSED',
      phase: 'connect',
      retryable: true,
    });
  });

  it('cancelling, a token that cannot be had, a size that is too large', async () => {
    await using graph = await start();
    expect(await failure(send(graph, {}, { signal: AbortSignal.abort() }))).toMatchObject({
      code: 'SEND_CANCELLED',
    });
    const auth = {
      kind: 'oauth2-client-credentials',
      user: 'me',
      tokenEndpoint: issuer.tokenEndpoint,
      clientId: 'app',
      clientSecret: 'wrong',
    };
    expect(await failure(send(graph, {}, {}, { auth }))).toMatchObject({
      code: 'TOKEN_CLIENT_REFUSED',
      phase: 'token',
    });
    const limits = { messageBytes: 1_000 };
    const tooLarge = send(graph, { text: 'x'.repeat(2_000) }, {}, { limits });
    expect(await failure(tooLarge)).toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
      details: { limitBytes: 1_000 },
    });
    expect(graph.sent).toEqual([]);
  });
});

it('the same connection over SMTP logs in with the token', async () => {
  await using graph = await start();
  let token = '';
  await using inbox = await SmtpInbox.start({
    tokens: new Proxy(
      {},
      {
        get: () => token,
        has: () => true,
        ownKeys: () => ['me@x.org'],
        getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
      },
    ),
  });
  const connection = connectionTo(graph, { delivery: 'smtp', host: '127.0.0.1', port: inbox.port });
  const fetch: typeof globalThis.fetch = async (url, init) => {
    const response = await globalThis.fetch(url, init);
    token = ((await response.clone().json()) as { access_token: string }).access_token;
    return response;
  };
  await using sender = createSender(connection, { auth: { fetch } });
  expect((await sender.send(message)).status).toBe('sent');
  expect(inbox.authAttempts).toEqual(['XOAUTH2']);
});

describe('verify', () => {
  it('says what the token permits', async () => {
    await using graph = await start();
    const report = await verifyConnection(connectionTo(graph));
    expect(report.steps.map(({ step, status }) => `${step} ${status}`)).toEqual([
      'dns ok',
      'tcp ok',
      'tls skipped',
      'ehlo skipped',
      'token ok',
      'auth ok',
      'sender skipped',
    ]);
    expect(JSON.stringify(report)).not.toMatch(/eyJ|S3cret/);
  });

  it('says when the permission is missing', async () => {
    await using graph = await start();
    await using other = await OAuthServer.start({
      ...{ secrets: { app: secret }, roles: ['SMTP.SendAsApp'], audience: 'https://graph.microsoft.com' },
    });
    const auth = {
      kind: 'oauth2-client-credentials',
      user: 'me',
      tokenEndpoint: other.tokenEndpoint,
      clientId: 'app',
      clientSecret: secret,
    };
    const stepOf = async (more: object) => {
      const { steps } = await verifyConnection(connectionTo(graph, { auth: { ...auth, ...more } }));
      return steps.find(({ step }) => step === 'auth');
    };
    expect(await stepOf({ exchangeRbac: true })).toMatchObject({ status: 'skipped' });
    await using exchange = await OAuthServer.start({ secrets: { app: secret }, roles: ['Mail.Send'] });
    expect(await stepOf({ tokenEndpoint: exchange.tokenEndpoint })).toMatchObject({
      status: 'failed',
      hint: expect.stringContaining('graph.microsoft.com/.default'),
    });
    const report = await verifyConnection(connectionTo(graph, { auth }));
    expect(report.ok).toBe(false);
    expect(report.steps.find(({ step }) => step === 'auth')?.error).toMatchObject({
      code: 'GRAPH_PERMISSION_MISSING',
    });
  });
});
