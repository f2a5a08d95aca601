// What a server owes the proxy in front of it, and whoever watches it.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalServer, startLocal, temporaryFolder } from './testing/local-server.test-support.ts';
import { putDatabase } from './testing/made-database.test-support.ts';

let local: LocalServer;
beforeAll(async () => {
  local = await startLocal({ FLOWPOST_BODY_MIB: '1' });
});
afterAll(() => local[Symbol.asyncDispose]());

const runs = '/v1/nodes/send-email/runs';

async function open({ url }: { readonly url: string }): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}
const head = (key: string, more: string): string =>
  `POST ${runs} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\n${more}\r\n\r\n`;

describe('a body that is too large', () => {
  it('without a length ends its request and nothing else, whatever the client goes on with', async () => {
    const socket = await open(local);
    socket.on('error', () => undefined);
    socket.write(head(local.key, 'transfer-encoding: chunked'));
    const piece = `10000\r\n${'x'.repeat(65_536)}\r\n`;
    const answered = once(socket, 'data');
    for (let sent = 0; sent < 40 && socket.writable; sent++) socket.write(piece);
    const [answer] = await answered;
    expect(String(answer)).toMatch(/^HTTP\/1\.1 413 /);
    for (let sent = 0; sent < 20 && socket.writable; sent++) socket.write(piece);
    socket.destroy();
    await delay(200);
    expect((await fetch(`${local.url}/healthz`)).status).toBe(200);
  });

  it.each([
    ['413', () => local.key],
    ['401', () => 'wrong'],
  ])('is answered with %s to who sends all of it first, as a proxy does', async (status, key) => {
    for (let time = 0; time < 5; time++) {
      const socket = await open(local);
      socket.write(head(key(), `content-length: ${8 << 20}\r\nconnection: close`));
      // Nothing is read before it has all gone out.
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.write(Buffer.alloc(8 << 20, ' '), () => resolve());
      });
      expect(await text(socket)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    }
  });

  it('is answered at once to who waits for that before he sends more', async () => {
    const begun = performance.now();
    const socket = await open(local);
    socket.write(head(local.key, `content-length: ${8 << 20}\r\nconnection: close`));
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 413 /);
    expect(performance.now() - begun).toBeLessThan(1_900);
    socket.destroy();
  });
});

it('a body in an encoding is refused as that', async () => {
  const response = await fetch(`${local.url}${runs}`, {
    method: 'POST',
    headers: {
      ...{ authorization: `Bearer ${local.key}`, 'content-type': 'application/json' },
      'content-encoding': 'gzip',
    },
    body: 'x',
  });
  expect([response.status, response.headers.get('accept-encoding')]).toEqual([415, 'identity']);
  expect(await response.json()).toMatchObject({ code: 'CONTENT_ENCODING_UNSUPPORTED' });
});

describe('whoever watches', () => {
  it('is answered by HEAD too, however often he asks', async () => {
    await using limited = await startLocal({ FLOWPOST_REQUESTS_PER_MINUTE: '3' });
    for (const path of ['/healthz', '/readyz'])
      for (let asked = 0; asked < 6; asked++) {
        const { status } = await fetch(`${limited.url}${path}`, { method: asked % 2 ? 'HEAD' : 'GET' });
        expect(status).toBe(200);
      }
    expect((await fetch(`${limited.url}/metrics`, { method: 'HEAD' })).status).toBe(404);
  });

  it('sees in the metrics that the database answers', async () => {
    expect(await (await fetch(`${local.url}/metrics`)).text()).toContain('\nflowpost_database_up 1\n');
  });

  it('hears of events as they come, through proxies that buffer', async () => {
    const signal = new AbortController();
    const response = await fetch(`${local.url}/v1/events`, {
      ...{ headers: { authorization: `Bearer ${local.key}` }, signal: signal.signal },
    });
    expect(response.headers.get('x-accel-buffering')).toBe('no');
    signal.abort();
  });
});

describe('a server that is stopped', () => {
  it('serves on while it says that it is not ready, so that nothing is cut off', async () => {
    await using inbox = await SmtpInbox.start();
    const leaving = await startLocal({ FLOWPOST_DRAIN_SECONDS: '2' });
    const stopped = leaving.server[Symbol.asyncDispose]();
    await delay(100);
    const ready = await fetch(`${leaving.url}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([503, { status: 'shutting down' }]);
    const settings = { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', text: 'x' };
    const response = await leaving.client.post(runs, { settings });
    expect([response.status, response.headers.get('connection')]).toEqual([200, 'close']);
    await stopped;
    await expect(fetch(`${leaving.url}/healthz`)).rejects.toThrow();
    await leaving[Symbol.asyncDispose]();
  });

  it('tells whoever waits what is known of his message when it waits no longer', async () => {
    await using silent = await FaultServer.start({ stage: 'dot', fault: 'silence' });
    const leaving = await startLocal({ FLOWPOST_GRACE_SECONDS: '1' });
    const settings = {
      ...{ connection: `smtp://127.0.0.1:${silent.port}?tls=none`, from: 'a@x.org', to: 'b@x.org' },
      text: 'x',
    };
    const waiting = leaving.client.post(runs, { settings });
    await expect.poll(() => silent.messages.length).toBe(1);
    await leaving[Symbol.asyncDispose]();
    expect(await waiting).toMatchObject({
      status: 502,
      body: { code: 'DELIVERY_IN_DOUBT', inDoubt: true, deliveryId: expect.any(String) },
    });
  });
});

it('what was left before it was handed over is sent when it is asked for again', async () => {
  await using folder = await temporaryFolder();
  await using silent = await FaultServer.start({ stage: 'mail', fault: 'silence', times: 3 });
  const connection = `smtp://127.0.0.1:${silent.port}?tls=none`;
  const settings = { connection, from: 'a@x.org', to: 'b@x.org', text: 'x' };
  const first = await startLocal({ FLOWPOST_GRACE_SECONDS: '1' }, { path: folder.path, key: '' });
  const ask = ({ client }: LocalServer, name: string) =>
    client.post(runs, { settings }, { 'idempotency-key': name });
  const waiting = Promise.all(['k', 'l', 'm'].map((name) => ask(first, name)));
  await expect.poll(() => silent.connections).toBeGreaterThan(2);
  await first[Symbol.asyncDispose]();
  for (const answer of await waiting)
    expect(answer).toMatchObject({
      status: 503,
      body: { code: 'PROCESS_ENDED', retryable: true, inDoubt: false },
    });
  await using second = await startLocal({}, { path: folder.path, key: first.key });
  const [left] = await waiting;
  expect(left?.body.hint).toMatch(/The same request under this Idempotency-Key is a new one/);
  const again = await ask(second, 'k');
  expect(again).toMatchObject({ status: 200, body: { outcome: { receipt: { status: 'sent' } } } });
  expect((await ask(second, 'k')).body).toEqual(again.body);
  // What was asked for again is not sent besides.
  const retry = (id: string) => second.client.post(`/v1/deliveries/${id}/retry`, undefined);
  expect((await retry(left?.body.deliveryId)).status).toBe(409);
  expect(silent.messages).toHaveLength(1);
  const { deliveryId } = (await waiting)[1]?.body ?? {};
  expect((await retry(deliveryId)).status).toBe(200);
  expect((await ask(second, 'l')).body.deliveryId).toBe(deliveryId);
  await expect.poll(() => silent.messages.length).toBe(2);
});

describe('a server that cannot start', () => {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));

  it.each([
    [
      'a port that is taken',
      78,
      /HOST 127\.0\.0\.1, PORT \d+[\s\S]*EADDRINUSE/,
      (port: number) => ({ PORT: `${port}` }),
    ],
    [
      'a database that is away',
      69,
      /DATABASE_URL[\s\S]*ECONNREFUSED/,
      () => ({ PORT: '0', DATABASE_URL: 'postgres://me:hunter2@127.0.0.1:1/flowpost' }),
    ],
    ['a folder that is a file', 78, /FLOWPOST_DATA/, () => ({ PORT: '0', FLOWPOST_DATA: main })],
    ['keys that are none', 78, /FLOWPOST_KEYS/, () => ({ PORT: '0', FLOWPOST_KEYS: 'x y' })],
    ['a port in another notation', 78, /PORT: it is no whole number/, () => ({ PORT: '0x10' })],
  ])('says which variable is about %s', async (_what, code, says, more) => {
    await using folder = await temporaryFolder();
    await putDatabase(join(folder.path, 'database'));
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    const env = { ...process.env, FLOWPOST_DATA: folder.path, LOG_LEVEL: 'silent', ...more(port) };
    const failed = await promisify(execFile)(process.execPath, ['--conditions=@flowpost/source', main], {
      env,
    }).catch((error) => error);
    taken.close();
    expect(failed).toMatchObject({ code, stderr: expect.stringMatching(says) });
    expect(failed.stderr).not.toContain('hunter2');
  });
});
