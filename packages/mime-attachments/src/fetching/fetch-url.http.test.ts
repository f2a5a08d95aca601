import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { brotliCompressSync, deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import { type Lookup, MailError } from '@flowpost/core';
import {
  CertificateAuthority,
  createTestCertificates,
  type HttpHandler,
  HttpServer,
  parseMail,
  RawServer,
} from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AttachmentPolicy, UrlPolicy } from '../attachment-policy.ts';
import { composeMessage } from '../compose/compose-message.ts';

const large = randomBytes(3_000_000);
const send =
  (body: string | Buffer, headers: Record<string, string> = {}, status = 200): HttpHandler =>
  (_, response) =>
    response.writeHead(status, { 'content-length': Buffer.byteLength(body), ...headers }).end(body);
const redirect = (location: string): HttpHandler => send('', { location }, 302);

/** Writes pieces, then does something else than ending the answer. */
const breakOff =
  (headers: Record<string, string>, then: (response: Parameters<HttpHandler>[1]) => void): HttpHandler =>
  (_, response) => {
    response.writeHead(200, headers);
    response.write('x'.repeat(10_000), () => then(response));
  };

let folder: string;
let server: HttpServer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  server = await HttpServer.start({
    '/a.csv': send('1,2\n', { 'content-type': 'text/csv; charset=utf-8' }),
    '/named': send('%PDF-1.7', {
      'content-disposition': "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.pdf",
      'content-type': 'application/octet-stream',
    }),
    '/picture': send(Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ', 'base64')),
    '/odd-type': send('x', { 'content-type': 'multipart/mixed; boundary=b' }),
    '/large.bin': send(large),
    '/large-chunked.bin': (_, response) => {
      response.write(large.subarray(0, 1_500_000));
      response.end(large.subarray(1_500_000));
    },
    '/backup.tar.gz': send(gzipSync('packed'), {
      'content-type': 'application/x-gzip',
      'content-encoding': 'x-gzip',
    }),
    '/rows.csv.gz': send(gzipSync('packed'), { 'content-type': 'text/csv', 'content-encoding': 'gzip' }),
    [`/${'A'.repeat(300)}`]: send('x', { 'content-type': 'image/jpeg' }),
    '/mib': send(randomBytes(1024 * 1024)),
    '/gzip': send(gzipSync('packed'), { 'content-encoding': 'gzip' }),
    '/deflate': send(deflateSync('packed'), { 'content-encoding': 'deflate' }),
    '/br': send(brotliCompressSync('packed'), { 'content-encoding': 'br' }),
    '/bomb': send(gzipSync(Buffer.alloc(64 * 1024 * 1024)), { 'content-encoding': 'gzip' }),
    '/cut-gzip': send(gzipSync(randomBytes(1_000)).subarray(0, 500), { 'content-encoding': 'gzip' }),
    '/not-gzip': send('not packed at all', { 'content-encoding': 'gzip' }),
    '/odd-parameter': send('x', { 'content-type': 'application/pdf;\xa0x=y' }),
    '/twice-packed': send('x', { 'content-encoding': 'gzip, gzip' }),
    '/missing': send('', {}, 404),
    '/gone': send('', {}, 410),
    '/forbidden': send('', {}, 403),
    '/login': send('', {}, 401),
    '/busy': send('', {}, 503),
    '/throttled': send('', { 'retry-after': '7' }, 429),
    '/partial': send('', {}, 206),
    '/no-location': send('', {}, 302),
    '/silent': () => undefined,
    '/stalls': breakOff({}, () => undefined),
    '/cut-large': breakOff({ 'content-length': '20000000' }, (response) => response.destroy()),
    '/stalls-large': breakOff({ 'content-length': '20000000' }, () => undefined),
    '/cut-length': breakOff({ 'content-length': '20000' }, (response) => response.destroy()),
    '/cut-chunked': breakOff({}, (response) => response.destroy()),
    '/1': redirect('/2'),
    '/2': redirect('/3'),
    '/3': redirect('/4'),
    '/4': redirect('/5'),
    '/5': redirect('a.csv'),
    '/loop': redirect('/loop'),
    '/to-file': redirect('file:///etc/passwd'),
    '/to-password': redirect('http://user:secret@127.0.0.1/'),
    '/to-other-port': redirect('http://127.0.0.1:1/'),
    '/to-metadata': (request, response) =>
      response
        .writeHead(302, { location: `http://169.254.169.254:${request.socket.localPort}/latest` })
        .end(),
    '/to-mapped': (request, response) =>
      response
        .writeHead(302, { location: `http://[::ffff:127.0.0.1]:${request.socket.localPort}/a.csv` })
        .end(),
  });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  // Nothing is left behind, whatever happened.
  expect(await readdir(folder)).toEqual([]);
  await rm(folder, { recursive: true });
});

/** This server's address and port are allowed, and only these. */
const open = (urls: UrlPolicy = {}): UrlPolicy => ({
  allowedHosts: ['127.0.0.1'],
  allowedPorts: [server.port],
  ...urls,
});

async function attach(
  url: string,
  urls: UrlPolicy = open(),
  policy: AttachmentPolicy = {},
  signal?: AbortSignal,
) {
  const composed = await composeMessage(
    { from: 'a@x.org', to: 'b@x.org', text: 'x', attachments: [{ kind: 'url', url }] },
    { attachments: { temporaryFolder: folder, ...policy, urls }, signal },
  );
  const raw = Buffer.isBuffer(composed.body) ? composed.body : await buffer(composed.body);
  expect(raw.length).toBe(composed.sizeBytes);
  const [found] = (await parseMail(raw)).attachments;
  if (!found) throw new Error('there is no attachment');
  return { ...found, streamed: !Buffer.isBuffer(composed.body) };
}
const fetched = (path: string, urls?: UrlPolicy, policy?: AttachmentPolicy) =>
  attach(server.url(path), urls, policy);

describe('what is fetched', () => {
  it.each([
    ['/a.csv', 'a.csv', 'text/csv', '1,2\n'],
    ['/a.csv?token=1#x', 'a.csv', 'text/csv', '1,2\n'],
    ['/named', 'Größe.pdf', 'application/pdf', '%PDF-1.7'],
    ['/odd-type', 'odd-type', 'application/octet-stream', 'x'],
    ['/odd-parameter', 'odd-parameter.pdf', 'application/pdf', 'x'],
    ['/gzip', 'gzip', expect.any(String), 'packed'],
    ['/deflate', 'deflate', 'application/octet-stream', 'packed'],
    ['/br', 'br', 'application/octet-stream', 'packed'],
    ['/1', 'a.csv', 'text/csv', '1,2\n'],
  ])('%s is %s of type %s', async (path, filename, contentType, content) => {
    expect(await fetched(path)).toMatchObject({ filename, contentType, content: Buffer.from(content) });
  });

  it('a picture without name or type is recognised by its first bytes', async () => {
    expect(await fetched('/picture')).toMatchObject({ filename: 'picture', contentType: 'image/png' });
  });

  it.each(['/large.bin', '/large-chunked.bin'])('%s streams, exact to the byte', async (path) => {
    const { content, streamed } = await fetched(path);
    expect(streamed).toBe(true);
    expect(content.equals(large)).toBe(true);
  });

  it.each(['backup.tar.gz', 'rows.csv.gz'])('%s is packed, as its name says', async (name) => {
    const { filename, content } = await fetched(`/${name}`);
    expect([filename, gunzipSync(content).toString()]).toEqual([name, 'packed']);
  });

  it('a long name at the end of a URL is as long as one of a file', async () => {
    const { filename } = await fetched(`/${'A'.repeat(300)}`);
    expect(filename).toMatch(/^A{250,251}\.jpe?g$/);
  });

  it('few at once, and no more than a message may have', async () => {
    const url = server.url('/mib');
    const attachments = Array.from({ length: 200 }, () => ({ kind: 'url' as const, url }));
    const before = server.requests.length;
    const composing = composeMessage(
      { from: 'a@x.org', to: 'b@x.org', attachments },
      { attachments: { urls: open(), maxTotalBytes: 5_000_000, temporaryFolder: folder } },
    );
    await expect(composing).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
      details: { limitBytes: 5_000_000, position: expect.any(Number) },
    });
    expect(server.requests.length - before).toBeLessThan(20);
  });

  it('over https, from a server a private authority vouches for', async () => {
    const { authority, valid } = await createTestCertificates();
    await using secure = await HttpServer.start({ '/a.txt': send('hi') }, { certificate: valid });
    const urls = { allowedHosts: ['localhost'], allowedPorts: [secure.port] };
    expect(await attach(secure.url('/a.txt', 'localhost'), { ...urls, ca: authority.cert })).toMatchObject({
      content: Buffer.from('hi'),
    });
    await expect(attach(secure.url('/a.txt', 'localhost'), urls)).rejects.toMatchObject({
      code: 'ATTACHMENT_UNREADABLE',
      retryable: false,
      hint: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    });
  });

  it('not from one whose certificate is good for something else, and that is final', async () => {
    const authority = await CertificateAuthority.create();
    const certificate = await authority.issue({ purpose: 'client' });
    await using secure = await HttpServer.start({ '/a.txt': send('hi') }, { certificate });
    const urls = { allowedHosts: ['localhost'], allowedPorts: [secure.port], ca: authority.cert };
    await expect(attach(secure.url('/a.txt', 'localhost'), urls)).rejects.toMatchObject({
      code: 'ATTACHMENT_UNREADABLE',
      retryable: false,
      details: { reason: 'INVALID_PURPOSE' },
    });
  });
});

describe('what fails names the attachment, and whether it may work later', () => {
  it('a server that says when to come back is heard', async () => {
    await expect(fetched('/throttled')).rejects.toMatchObject({ details: { retryAfterMs: 7_000 } });
  });

  it('a link that has expired is no matter of files', async () => {
    await expect(fetched('/forbidden')).rejects.toMatchObject({
      code: 'ATTACHMENT_ACCESS_DENIED',
      hint: expect.stringMatching(/without a login/),
    });
  });

  it.each([
    ['/missing', 'ATTACHMENT_NOT_FOUND', false],
    ['/gone', 'ATTACHMENT_NOT_FOUND', false],
    ['/forbidden', 'ATTACHMENT_ACCESS_DENIED', false],
    ['/login', 'ATTACHMENT_ACCESS_DENIED', false],
    ['/partial', 'ATTACHMENT_UNREADABLE', false],
    ['/no-location', 'ATTACHMENT_UNREADABLE', false],
    ['/twice-packed', 'ATTACHMENT_UNREADABLE', false],
    ['/not-gzip', 'ATTACHMENT_UNREADABLE', false],
    ['/loop', 'ATTACHMENT_UNREADABLE', false],
    ['/busy', 'ATTACHMENT_UNREACHABLE', true],
    ['/throttled', 'ATTACHMENT_UNREACHABLE', true],
    ['/cut-length', 'ATTACHMENT_TRUNCATED', true],
    ['/cut-large', 'ATTACHMENT_TRUNCATED', true],
    ['/cut-chunked', 'ATTACHMENT_TRUNCATED', true],
    ['/cut-gzip', 'ATTACHMENT_TRUNCATED', true],
    ['/to-file', 'ATTACHMENT_URL_REFUSED', false],
    ['/to-password', 'ATTACHMENT_URL_REFUSED', false],
    ['/to-other-port', 'ATTACHMENT_URL_REFUSED', false],
    ['/to-metadata', 'ATTACHMENT_URL_REFUSED', false],
  ])('%s: %s', async (path, code, retryable) => {
    const failed = await fetched(`${path}?key=SECRET`).catch((error) => error);
    expect(failed).toMatchObject({
      code,
      retryable,
      category: 'attachment',
      phase: 'attachments',
      inDoubt: false,
      details: { position: 1, name: server.url(path) },
    });
    expect(JSON.stringify(failed)).not.toMatch(/secret/i);
  });

  it.each(['/silent', '/stalls', '/stalls-large'])(
    '%s: the deadline is for the whole fetch',
    async (path) => {
      await expect(fetched(path, open({ timeoutMs: 200 }))).rejects.toMatchObject({
        code: 'ATTACHMENT_TIMED_OUT',
        retryable: true,
      });
    },
  );

  it('a server that trickles is not allowed to go on for ever', async () => {
    await using slow = await HttpServer.start({
      '/': (_, response) => {
        const timer = setInterval(() => response.write('x'), 20);
        response.once('close', () => clearInterval(timer));
      },
    });
    await expect(
      attach(slow.url('/'), open({ allowedPorts: [slow.port], timeoutMs: 300 })),
    ).rejects.toMatchObject({
      code: 'ATTACHMENT_TIMED_OUT',
    });
  });

  it('a server that never answers the TLS handshake, a name server that never answers', async () => {
    await using silent = await RawServer.start((socket) => socket.resume());
    const urls = open({ allowedPorts: [silent.port], timeoutMs: 200 });
    await expect(attach(`https://127.0.0.1:${silent.port}/`, urls)).rejects.toMatchObject({
      code: 'ATTACHMENT_TIMED_OUT',
    });
    await expect.poll(() => silent.openConnections).toBe(0);
    const controller = new AbortController();
    const lookup: Lookup = () => {
      controller.abort();
      return new Promise(() => undefined);
    };
    await expect(attach('http://x.example/', { lookup }, {}, controller.signal)).rejects.toMatchObject({
      code: 'SEND_CANCELLED',
    });
  });

  it('a caller who gives up with an error of ours', async () => {
    const controller = new AbortController();
    const lookup: Lookup = () => {
      controller.abort(new MailError('GREETING_REFUSED', 'of another message'));
      return new Promise(() => undefined);
    };
    await expect(attach('http://x.example/', { lookup }, {}, controller.signal)).rejects.toMatchObject({
      ...{ code: 'SEND_CANCELLED', phase: 'attachments' },
    });
  });

  it('a refused connection, a name that does not exist', async () => {
    const closed = await RawServer.start(() => undefined);
    const { port } = closed;
    await closed[Symbol.asyncDispose]();
    await expect(attach(`http://127.0.0.1:${port}/`, open({ allowedPorts: [port] }))).rejects.toMatchObject({
      code: 'ATTACHMENT_UNREACHABLE',
      retryable: true,
      details: { reason: 'ECONNREFUSED' },
    });
    const lookup: Lookup = () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' }));
    await expect(attach('http://nothing.example/', { lookup })).rejects.toMatchObject({
      code: 'ATTACHMENT_NOT_FOUND',
    });
  });

  it('an answer that is not HTTP', async () => {
    await using odd = await RawServer.start((socket) => socket.end('220 hello\r\n'));
    await expect(
      attach(`http://127.0.0.1:${odd.port}/`, open({ allowedPorts: [odd.port] })),
    ).rejects.toMatchObject({
      code: 'ATTACHMENT_UNREADABLE',
    });
  });

  it('a server that goes on after the length it announced', async () => {
    await using odd = await RawServer.start((socket) => {
      socket.once('data', () =>
        socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n${'x'.repeat(50_000)}`),
      );
    });
    const { content } = await attach(`http://127.0.0.1:${odd.port}/`, open({ allowedPorts: [odd.port] }));
    expect(content.toString()).toBe('xxxxx');
  });

  it.each(['/large.bin', '/large-chunked.bin', '/bomb'])(
    '%s over the limit is not read to its end',
    async (path) => {
      await expect(fetched(path, open(), { maxBytes: 1_200_000 })).rejects.toMatchObject({
        code: 'ATTACHMENT_TOO_LARGE',
        details: { limitBytes: 1_200_000 },
      });
    },
  );

  it('no room for a large one', async () => {
    await expect(
      fetched('/large-chunked.bin', open(), { temporaryFolder: join(folder, 'missing') }),
    ).rejects.toMatchObject({
      code: 'ATTACHMENT_UNREADABLE',
      details: { reason: 'ENOENT' },
    });
  });

  it('a caller that cancels, or has no more time', async () => {
    const controller = new AbortController();
    const stopped = attach(server.url('/silent'), open(), {}, controller.signal);
    controller.abort();
    await expect(stopped).rejects.toMatchObject({
      code: 'SEND_CANCELLED',
      phase: 'attachments',
      retryable: false,
    });
    const late = attach(server.url('/silent'), open(), {}, AbortSignal.timeout(50));
    await expect(late).rejects.toMatchObject({
      code: 'SEND_TIMED_OUT',
      phase: 'attachments',
      retryable: true,
    });
  });

  it('a message that is given up while the server stalls closes its downloads at once', async () => {
    const { body } = await composeMessage(
      { from: 'a@x.org', to: 'b@x.org', attachments: [{ kind: 'url', url: server.url('/stalls-large') }] },
      { attachments: { urls: open({ timeoutMs: 60_000 }) } },
    );
    if (Buffer.isBuffer(body)) throw new Error('it should stream');
    body.on('error', () => undefined);
    body.resume();
    await new Promise(setImmediate);
    body.destroy();
    await expect.poll(() => server.connections()).toBe(0);
  });

  it('a message that is given up closes its downloads', async () => {
    const { body } = await composeMessage(
      { from: 'a@x.org', to: 'b@x.org', attachments: [{ kind: 'url', url: server.url('/large.bin') }] },
      { attachments: { urls: open() } },
    );
    if (Buffer.isBuffer(body)) throw new Error('it should stream');
    body.destroy();
    await expect.poll(() => server.connections()).toBe(0);
  });

  it('when one fails the others are stopped, and nothing stays open', async () => {
    await using own = await HttpServer.start({
      '/large': send(large),
      '/silent': () => undefined,
      '/missing': (_, response) => setTimeout(() => response.writeHead(404).end(), 100),
    });
    const attachments = ['/large', '/silent', '/missing'].map((path) => ({
      kind: 'url' as const,
      url: own.url(path),
    }));
    await expect(
      composeMessage(
        { from: 'a@x.org', to: 'b@x.org', attachments },
        { attachments: { temporaryFolder: folder, urls: open({ allowedPorts: [own.port] }) } },
      ),
    ).rejects.toMatchObject({ code: 'ATTACHMENT_NOT_FOUND', details: { position: 3 } });
    await expect.poll(() => own.connections()).toBe(0);
  });
});

describe('private networks are out of reach', () => {
  const refused = { code: 'ATTACHMENT_URL_REFUSED', category: 'attachment', retryable: false };
  const anyPort = () => ({ allowedPorts: [server.port] });

  it.each([
    '127.0.0.1',
    'localhost',
    'LOCALHOST.',
    '0.0.0.0',
    '0',
    '2130706433',
    '0x7f000001',
    '017700000001',
    '127.1',
    '0x7f.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::]',
    '[64:ff9b::127.0.0.1]',
    '１２７.0.0.1',
  ])('%s', async (host) => {
    const before = server.requests.length;
    await expect(attach(server.url('/a.csv', host), anyPort())).rejects.toMatchObject(refused);
    expect(server.requests).toHaveLength(before);
  });

  it('a name that leads there, whatever else it leads to', async () => {
    const lookup: Lookup = async () => [
      { address: '10.0.0.1', family: 4 },
      { address: '::ffff:127.0.0.1', family: 6 },
    ];
    await expect(attach(server.url('/a.csv', 'x.example'), { ...anyPort(), lookup })).rejects.toMatchObject(
      refused,
    );
  });

  it('a redirect there', async () => {
    await expect(fetched('/to-metadata')).rejects.toMatchObject(refused);
    await using front = await HttpServer.start(
      { '/': (_, response) => response.writeHead(302, { location: server.url('/a.csv') }).end() },
      { address: '127.0.0.2' },
    );
    const urls = { allowedHosts: ['127.0.0.2'], allowedPorts: [front.port, server.port] };
    const before = server.requests.length;
    await expect(attach(front.url('/', '127.0.0.2'), urls)).rejects.toMatchObject(refused);
    expect(server.requests).toHaveLength(before);
  });

  it('a name of several addresses, but for those that are allowed', async () => {
    const addresses = ['127.0.0.1', '127.0.0.2'];
    const lookup: Lookup = async () => addresses.map((address) => ({ address, family: 4 }));
    const urls = { allowedHosts: ['127.0.0.2'], allowedPorts: [server.port], lookup };
    const before = server.requests.length;
    await expect(attach(server.url('/a.csv', 'mixed.example'), urls)).rejects.toMatchObject({
      code: 'ATTACHMENT_UNREACHABLE',
    });
    expect(server.requests).toHaveLength(before);
  });

  it('an answer of the DNS that changes: the one that was checked is the one that is used', async () => {
    await using decoy = await HttpServer.start(
      { '/a.csv': send('decoy') },
      { address: '127.0.0.2', port: server.port },
    );
    let lookups = 0;
    const lookup: Lookup = async () => [{ address: ++lookups === 1 ? '127.0.0.2' : '127.0.0.1', family: 4 }];
    const urls = { allowedHosts: ['127.0.0.2'], allowedPorts: [server.port], lookup };
    const before = server.requests.length;
    expect(await attach(server.url('/a.csv', 'rebind.example'), urls)).toMatchObject({
      content: Buffer.from('decoy'),
    });
    expect(lookups).toBe(1);
    await expect(attach(server.url('/a.csv', 'rebind.example'), urls)).rejects.toMatchObject(refused);
    expect(server.requests).toHaveLength(before);
    expect(decoy.requests).toHaveLength(1);
  });

  it('only the allowed ones of several addresses are tried', async () => {
    const lookup: Lookup = async () => [
      { address: '10.0.0.1', family: 4 },
      { address: '127.0.0.1', family: 4 },
    ];
    expect(await attach(server.url('/a.csv', 'x.example'), open({ lookup }))).toMatchObject({
      filename: 'a.csv',
    });
  });

  it.each([
    ['ftp://x.example/a', 'neither http nor https'],
    ['file:///etc/passwd', 'neither http nor https'],
    ['javascript:alert(1)', 'neither http nor https'],
    ['http://user:secret@x.example/', 'user name or password'],
    ['http://x.example:22/', 'port 22'],
    ['https://x.example:80/', 'port 80'],
    ['http://', 'cannot be understood'],
    ['no url', 'cannot be understood'],
    ['htps:user:secret@x.example/', 'neither http nor https'],
    ['blob:https://user:secret@x.example/', 'neither http nor https'],
  ])('%s', async (url, why) => {
    const urls = { allowedPorts: [443] };
    const failed = await attach(url, url.includes('user') ? { allowedPorts: [80] } : urls).catch(
      (error) => error,
    );
    expect(failed).toMatchObject(refused);
    expect(failed.message).toContain(why);
    expect(`${failed.message}${JSON.stringify(failed)}`).not.toContain('secret');
  });
});
