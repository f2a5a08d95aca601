import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { get } from 'node:http';
import { connect } from 'node:net';
import { join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MailError, SecretBox } from '@flowpost/core';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { migrate } from './database/migrate.ts';
import { openPglite } from './database/pglite.ts';
import { isStorable, storable } from './database/storable.ts';
import { nextAttemptAt } from './outbox/backoff.ts';
import type { NewDelivery } from './outbox/delivery.ts';
import { rowOf } from './outbox/delivery-row.ts';
import { DeliveryStore } from './outbox/delivery-store.ts';
import { startBoss } from './outbox/outbox.ts';
import { put, settings, stateOf } from './testing/deliveries.test-support.ts';
import { startLocal, temporaryFolder } from './testing/local-server.test-support.ts';
import { putDatabase } from './testing/made-database.test-support.ts';

describe('states', () => {
  /** The store on a database of its own, with deliveries claimed by a worker. */
  async function withStore(
    work: (
      store: DeliveryStore,
      claim: (mode: 'sync' | 'async', worker: string) => Promise<{ id: string; attempt: number }>,
    ) => Promise<void>,
  ) {
    await using folder = await temporaryFolder();
    await putDatabase(`${folder.path}/db`);
    await using database = await openPglite(`${folder.path}/db`);
    await migrate(database);
    const boss = await startBoss(database, () => undefined);
    const store = new DeliveryStore(database, boss);
    await work(store, async (mode, worker) => {
      const id = randomUUID();
      const delivery: NewDelivery = {
        ...{
          id,
          mode,
          nodeType: 'send-email',
          nodeId: 'n',
          messageId: '<a@x.org>',
          recipients: [],
          subject: '',
          apiKey: 'k',
        },
        request: { message: { from: 'a@x.org' }, policy: {} as never, unshared: false },
        lane: 'a',
        sealed: 'x',
      };
      await store.insert([rowOf(delivery, worker)]);
      if (mode === 'sync') return { id, attempt: 1 };
      const [claimed] = await store.claim(worker, 10);
      return { id, attempt: claimed?.attempt ?? 0 };
    });
    await boss.stop({ graceful: false });
  }
  const failed = new MailError('PROCESS_ENDED', 'x').toJSON();
  const doubt = new MailError('DELIVERY_IN_DOUBT', 'x', { phase: 'confirm' }).toJSON();
  const sent = { state: 'sent', receipt: { status: 'sent' } as never } as const;

  it('a delivery belongs to who claimed it: taken over, nobody else can commit or settle it', () =>
    withStore(async (store, claim) => {
      const [slow, other] = [randomUUID(), randomUUID()];
      const queued = await claim('async', slow);
      expect(await store.recover([slow], failed, doubt)).toMatchObject([{ state: 'queued' }]);
      // The one taken for dead comes back: it may not send any more.
      expect(await store.commit([queued], slow)).toEqual([false]);
      const [again] = await store.claim(other, 10);
      expect(again).toMatchObject({ id: queued.id, attempt: 2 });
      await store.settle([{ ...queued, state: 'failed', error: failed }], slow);
      expect(await store.get(queued.id)).toMatchObject({ state: 'sending' });
    }));

  it('what may have left is in doubt when it is taken over, and settled by who comes back with the truth', () =>
    withStore(async (store, claim) => {
      const slow = randomUUID();
      for (const mode of ['async', 'sync'] as const) {
        const one = await claim(mode, slow);
        expect(await store.commit([one], slow)).toEqual([true]);
        expect(await store.recover([slow], failed, doubt)).toMatchObject([{ state: 'in-doubt' }]);
        await store.settle([{ ...one, ...sent }], slow);
        expect(await store.get(one.id)).toMatchObject({ state: 'sent', error: null });
      }
    }));

  it('what nobody waits for any more has failed, and is free to be sent again', () =>
    withStore(async (store, claim) => {
      const gone = randomUUID();
      const one = await claim('sync', gone);
      expect(await store.recover([gone], failed, doubt)).toMatchObject([{ state: 'failed' }]);
      expect(await store.get(one.id)).toMatchObject({ state: 'failed', error: { code: 'PROCESS_ENDED' } });
    }));

  it('a delivery that waits is not taken before its time, whatever job comes for it', () =>
    withStore(async (store, claim) => {
      const worker = randomUUID();
      const one = await claim('async', worker);
      await store.settle([{ ...one, state: 'queued', nextAt: Date.now() + 60_000 }], worker);
      expect(await store.claim(worker, 10)).toEqual([]);
      expect(await store.move(one.id, ['queued'], 'cancelled')).toBe(true);
      expect(await store.move(one.id, ['cancelled'], 'queued')).toBe(true);
      expect(await store.claim(worker, 10)).toMatchObject([{ id: one.id, attempt: 2 }]);
    }));
});

describe('what others say', () => {
  it.each(['250 2.0.0 taken \u0000 id', '550 5.7.1 no \u0000'])(
    'a reply with a NUL (%j) is written down all the same',
    async (reply) => {
      await using strange = await RawServer.start((socket) =>
        speakSmtp(socket, (command) => (command === '.' ? reply : undefined)),
      );
      await using local = await startLocal();
      const { body } = await put(local, `smtp://127.0.0.1:${strange.port}`);
      await expect
        .poll(async () => (await stateOf(local, body.deliveryId)).state)
        .toBe(reply.startsWith('250') ? 'sent' : 'failed');
    },
  );

  it('text that cannot be stored is refused by field, and harms nobody else', async () => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        put(local, inbox.url, { text: index % 10 === 0 ? 'a\u0000b' : index % 10 === 1 ? '\ud800' : 'x' }),
      ),
    );
    const statuses = Map.groupBy(answers, ({ status }) => status);
    expect([statuses.get(202)?.length, statuses.get(422)?.length]).toEqual([80, 20]);
    expect((await local.client.get('/v1/connections/%00')).status).toBe(422);
    expect((await local.client.post('/v1/api-keys', { name: 'a\u0000', scopes: ['send'] })).status).toBe(422);
  });

  it('what is too deep for a database is refused, and harms nobody else', async () => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    const deep = (levels: number): string => `{"trigger":{"a":${'['.repeat(levels)}${']'.repeat(levels)}}}`;
    const run = (flow: string) => {
      const body = { settings: settings(inbox.url, { async: true }), flow: 'FLOW' };
      return fetch(`${local.url}/v1/nodes/send-email/runs`, {
        method: 'POST',
        headers: { authorization: `Bearer ${local.key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body).replace('"FLOW"', flow),
      });
    };
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, index) => run(deep(index === 20 ? 5_000 : 90))),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses[20]).toBe(422);
    expect(new Set(statuses.toSpliced(20, 1))).toEqual(new Set([202]));
  });

  it('JSON for the database keeps what can be kept', () => {
    const value = { a: 'x\u0000y', b: 'ok \\u0000', c: '\ud800', d: '😀', e: '\\' };
    expect(JSON.parse(storable(value))).toEqual({ ...value, a: 'x\ufffdy', c: '\ufffd' });
    expect(['a', '😀', '\0', '\udc00'].map(isStorable)).toEqual([true, true, false, false]);
  });
});

describe('stopping', () => {
  it('waits for what is under way, and not for those who only listen', async () => {
    const gate = Promise.withResolvers<undefined>();
    await using inbox = await SmtpInbox.start({ refuse: { message: () => gate.promise } });
    await using local = await startLocal();
    const listening = new AbortController();
    await fetch(`${local.url}/v1/events`, {
      headers: { authorization: `Bearer ${local.key}` },
      signal: listening.signal,
    });
    await put(local, inbox.url);
    await expect.poll(() => inbox.connections).toBe(1);
    const stopped = local.server[Symbol.asyncDispose]();
    await delay(200);
    gate.resolve(undefined);
    await stopped;
    expect(inbox.messages).toHaveLength(1);
    listening.abort();
  });
});

it('who listens to events and is gone before the answer is not written to', async () => {
  await using local = await startLocal();
  const waiting = () => process.getActiveResourcesInfo().filter((one) => one === 'Timeout').length;
  const before = waiting();
  const { port } = new URL(local.url);
  const request = `GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${local.key}\r\n\r\n`;
  await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const socket = connect(Number(port), '127.0.0.1');
      await once(socket, 'connect');
      socket.write(request);
      if (index % 2 === 0) await delay(index / 10);
      socket.resetAndDestroy();
    }),
  );
  await expect.poll(waiting).toBeLessThan(before + 5);
});

describe('requests', () => {
  it('an idempotency key that is too long, or a deleted connection, changes nothing about earlier answers', async () => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    await local.client.post('/v1/connections', {
      name: 'mail',
      connection: { host: '127.0.0.1', port: inbox.port, from: 'a@x.org' },
    });
    const post = (key: string, more = {}) =>
      local.client.post(
        '/v1/nodes/send-email/runs',
        { settings: settings('@mail', more) },
        { 'idempotency-key': key },
      );
    expect((await post('x'.repeat(256))).status).toBe(422);
    const first = await post('k');
    const queued = await post('queued', { async: true, from: undefined });
    expect(queued.status).toBe(202);
    await local.client.call('DELETE', '/v1/connections/mail');
    expect((await post('k')).body).toEqual(first.body);
    expect(await post('queued', { async: true, from: undefined })).toMatchObject({
      status: 202,
      body: queued.body,
    });
    expect((await post('other')).status).toBe(404);
  });

  it('an address with a domain in another script works in either way', async () => {
    await using inbox = await SmtpInbox.start();
    await using local = await startLocal();
    const run = (async: boolean) =>
      local.client.post('/v1/nodes/send-email/runs', {
        settings: settings(inbox.url, { from: 'a@bücher.example', async }),
      });
    expect((await run(false)).body.outcome.receipt.messageId).toMatch(/@xn--bcher-kva\.example>$/);
    expect((await run(true)).status).toBe(202);
  });

  it('who may only send cannot make the server read its files or call its network', async () => {
    await using local = await startLocal();
    const { body: made } = await local.client.post('/v1/api-keys', { name: 'flows', scopes: ['send'] });
    const limited = local.client.as(made.key);
    const run = (connection: unknown) =>
      limited.post('/v1/nodes/send-email/runs', { settings: settings(connection as string) });
    const preview = (connection: unknown) =>
      limited.post('/v1/previews', { node: 'send-email', settings: settings(connection as string) });
    // It lies where the server was started, and not in its folder for files.
    const here = relative(process.cwd(), fileURLToPath(import.meta.url));
    const dkim = (privateKeyFile: string) => ({
      host: 'x.org',
      dkim: [{ domain: 'x.org', selector: 's', privateKeyFile }],
    });
    const client = { kind: 'oauth2-client-credentials', user: 'a@x.org', clientId: 'c', clientSecret: 's' };
    for (const connection of [
      'smtps://127.0.0.1:2?caFile=/dev/zero',
      dkim('/dev/zero'),
      dkim(here),
      { host: 'x.org', auth: { ...client, tokenEndpoint: 'https://[64:ff9b::a00:1]/token' } },
      { host: 'x.org', auth: { ...client, tokenEndpoint: 'https://198.18.0.1/token' } },
      { host: 'x.org', auth: { ...client, tokenEndpoint: 'http://127.0.0.1:1/latest/meta-data' } },
      { host: 'x.org', auth: { ...client, tokenEndpoint: 'https://169.254.169.254/token' } },
      {
        host: 'x.org',
        auth: {
          kind: 'oauth2-certificate',
          user: 'a@x.org',
          tenantId: 't',
          clientId: 'c',
          certificateFile: '/etc/ssl/key.pem',
          assertion: 'entra',
        },
      },
    ]) {
      expect((await run(connection)).body).toMatchObject({ status: 422, code: 'CONNECTION_INVALID' });
      expect((await preview(connection)).body).toMatchObject({ status: 422, code: 'CONNECTION_INVALID' });
    }
    // Administrators may use what is inside, but no files outside of the folder for them.
    const stored = await local.client.post('/v1/connections', {
      name: 'f',
      connection: 'smtps://x.org?caFile=/etc/passwd',
    });
    expect(stored.status).toBe(422);
  });

  it('refused keys are limited like everything else', async () => {
    await using local = await startLocal({ FLOWPOST_REQUESTS_PER_MINUTE: '20' });
    const statuses = new Set<number>();
    for (let one = 0; one < 40; one++)
      statuses.add((await local.client.as('nothing').get('/v1/nodes')).status);
    expect([...statuses].toSorted()).toEqual([401, 429]);
  });

  it('a key is limited from wherever it is used', async () => {
    await using local = await startLocal({ FLOWPOST_REQUESTS_PER_MINUTE: '20' });
    const headers = { authorization: `Bearer ${local.key}` };
    const statusFrom = async (localAddress: string): Promise<number | undefined> => {
      const [response] = await once(
        get(`${local.url}/v1/nodes`, { localAddress, headers, agent: false }),
        'response',
      );
      response.resume();
      return response.statusCode;
    };
    const statuses = [];
    for (let one = 0; one < 30; one++) statuses.push(await statusFrom(`127.0.0.${2 + (one % 3)}`));
    expect(statuses.slice(0, 18)).not.toContain(429);
    expect(statuses.slice(-8)).toEqual(Array(8).fill(429));
  });
});

it('servers on one database need the same keys', async () => {
  await using folder = await temporaryFolder();
  const first = await startLocal(
    { FLOWPOST_KEYS: `a:${Buffer.alloc(32, 1).toString('base64url')}` },
    { path: folder.path, key: '' },
  );
  await first[Symbol.asyncDispose]();
  const other = startLocal(
    { FLOWPOST_KEYS: `b:${Buffer.alloc(32, 2).toString('base64url')}` },
    { path: folder.path, key: '' },
  );
  await expect(other.then(() => 'started')).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
});

it('keys are rotated by a start with a new one in front, after which the old one can go', async () => {
  await using inbox = await SmtpInbox.start({ users: { me: 'pw' } });
  await using folder = await temporaryFolder();
  const [a = '', b = ''] = [1, 2].map(
    (fill) => `${'-ab'[fill]}:${Buffer.alloc(32, fill).toString('base64url')}`,
  );
  const start = (keys = '', key = '') => startLocal({ FLOWPOST_KEYS: keys }, { path: folder.path, key });
  let local = await start(a);
  const { key } = local;
  const connection = `smtp://me:pw@127.0.0.1:${inbox.port}`;
  await local.client.post('/v1/connections', { name: 'mail', connection });
  const run = (name: string, more: object) =>
    local.client.post(
      '/v1/nodes/send-email/runs',
      { settings: settings('@mail', more) },
      { 'idempotency-key': name },
    );
  const first = await run('k', {});
  expect(first.status).toBe(200);
  await local[Symbol.asyncDispose]();
  local = await start(`${b},${a}`, key);
  expect((await run('k', {})).body).toEqual(first.body);
  // Its log says when that is done. Without the old key a start says whether it was.
  let pauseMs = 300;
  await expect
    .poll(async () => {
      await delay(pauseMs);
      pauseMs *= 2;
      await local[Symbol.asyncDispose]();
      const withoutOld = await start(b, key).catch(({ code }) => code);
      local = typeof withoutOld === 'string' ? await start(`${b},${a}`, key) : withoutOld;
      return withoutOld;
    })
    .not.toBe('SECRET_KEY_MISSING');
  expect((await run('k', {})).body).toEqual(first.body);
  expect((await run('another', { subject: 'again' })).status).toBe(200);
  await local[Symbol.asyncDispose]();
});

it('what was sealed with a key that this server does not have waits, and answers of then are made anew', async () => {
  let isAway = true;
  await using inbox = await SmtpInbox.start({
    users: { me: 'pw' },
    refuse: { rcptTo: () => (isAway ? { code: 451, text: '4.3.0 later' } : undefined) },
  });
  await using folder = await temporaryFolder();
  const [a = '', b = ''] = [1, 2].map(
    (fill) => `${'-ab'[fill]}:${Buffer.alloc(32, fill).toString('base64url')}`,
  );
  const start = (keys = '', key = '') => startLocal({ FLOWPOST_KEYS: keys }, { path: folder.path, key });
  let local = await start(`${a},${b}`);
  const { key } = local;
  const connection = `smtp://me:pw@127.0.0.1:${inbox.port}`;
  const run = (more: object, headers = {}) =>
    local.client.post('/v1/nodes/send-email/runs', { settings: settings(connection, more) }, headers);
  const { body } = await run({ async: true, subject: 'later' });
  const stateOf = async () => (await local.client.get(`/v1/deliveries/${body.deliveryId}`)).body;
  await expect.poll(async () => (await stateOf()).error?.code).toBe('RECIPIENTS_DEFERRED');
  isAway = false;
  expect((await run({ subject: 'kept' }, { 'idempotency-key': 'k' })).status).toBe(200);
  await local.client.post('/v1/connections', { name: 'mail', connection });
  const runStored = (subject: string) =>
    local.client.post(
      '/v1/nodes/send-email/runs',
      { settings: settings('@mail', { subject }) },
      { 'idempotency-key': subject },
    );
  expect((await runStored('stored')).status).toBe(200);
  await local[Symbol.asyncDispose]();
  // Only what tells the keys is as after a rotation that the other server did not take part in.
  await using database = await openPglite(join(folder.path, 'database'));
  const other = await SecretBox.fromText(b).derive('server');
  await database.query('update flowpost.key_check set sealed = $1', [(await other.encrypt('x')).compact]);
  await database.query("update flowpost.deliveries set next_at = now() where state = 'queued'", []);
  await database[Symbol.asyncDispose]();
  local = await start(b, key);
  await expect
    .poll(async () => (await stateOf()).error?.code, { timeout: 20_000 })
    .toBe('STORAGE_UNAVAILABLE');
  expect(await stateOf()).toMatchObject({
    state: 'queued',
    error: { details: { reason: 'SECRET_KEY_MISSING' } },
  });
  const again = await run({ subject: 'kept' }, { 'idempotency-key': 'k' });
  expect([again.status, again.body.outcome?.receipt?.status ?? again.body]).toEqual([200, 'sent']);
  expect((await runStored('stored')).body).toMatchObject({ outcome: { receipt: { status: 'sent' } } });
  const another = await runStored('another');
  expect([another.status, another.body.retryable]).toEqual([503, true]);
  await local[Symbol.asyncDispose]();
});

it('waits between attempts grow, honour the server, and end', () => {
  const at = (attempt: number, more: object = {}) =>
    nextAttemptAt({ attempt, triedSince: 0, now: 0, ...more }, { forMs: 48 * 3_600_000, random: () => 0.5 });
  expect([1, 2, 3, 4, 9, 20].map((attempt) => at(attempt))).toEqual([
    5_000, 20_000, 60_000, 300_000, 14_400_000, 14_400_000,
  ]);
  expect(at(1, { retryAfterMs: 3_600_000 })).toBe(3_600_000);
  expect(at(1, { now: 48 * 3_600_000 })).toBeUndefined();
});
