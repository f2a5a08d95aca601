import { EventEmitter, once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrate } from './database/migrate.ts';
import { openPglite } from './database/pglite.ts';
import { BodyBudget, NoRoom } from './http/body-budget.ts';
import { SharedRate } from './outbox/shared-rate.ts';
import { type LocalServer, startLocal, temporaryFolder } from './testing/local-server.test-support.ts';
import { putDatabase } from './testing/made-database.test-support.ts';

let local: LocalServer;
let inbox: SmtpInbox;
beforeAll(async () => {
  [local, inbox] = await Promise.all([
    startLocal({ FLOWPOST_TRUSTED_PROXIES: '127.0.0.1' }),
    SmtpInbox.start(),
  ]);
});
afterAll(async () => {
  await local[Symbol.asyncDispose]();
  await inbox[Symbol.asyncDispose]();
});

const settings = (more: object = {}) => ({
  ...{ connection: inbox.url, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x', ...more },
});
const run = (more: object = {}) =>
  local.client.post('/v1/nodes/send-email/runs', { settings: settings(more) });

it('takes null where nothing is', async () => {
  const body = { settings: settings({ subject: 'null' }), flow: null, nodeId: null };
  expect(await local.client.post('/v1/nodes/send-email/runs', body)).toMatchObject({ status: 200 });
  expect((await local.client.post('/v1/previews', { node: 'send-email', ...body })).status).toBe(200);
});

it.each([false, true])(
  'a delivery keeps what a failure is called on its platform (async: %s)',
  async (async) => {
    await using closed = await SmtpInbox.start({ users: { 'me@x.org': 'right' } });
    const body = {
      settings: {
        ...{ emailService: 'other', smtpSettings: { host: '127.0.0.1', port: closed.port, secure: false } },
        ...{ authentication: { type: 'basic', username: 'me@x.org', password: 'wrong' } },
        ...{ to: 'b@x.org', subject: 'Hi', content: 'x', async },
      },
    };
    const answer = await local.client.post('/v1/nodes/cognigy.send-smtp-email/runs', body);
    const id = answer.body.deliveryId;
    await expect
      .poll(async () => (await local.client.get(`/v1/deliveries/${id}`)).body)
      .toMatchObject({ state: 'failed', error: { platform: { name: '535 Authentication failed' } } });
  },
);

/** Sends bytes as they are. */
async function raw(bytes: string | Buffer): Promise<string> {
  const socket = connect(Number(new URL(local.url).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write(bytes);
  let answer = '';
  for await (const chunk of socket) answer += chunk;
  return answer;
}

describe('requests that are none', () => {
  it.each([
    [400, Buffer.from('{"settings":{"subject":"Caf\xe9"}}', 'latin1'), 'application/json'],
    [415, Buffer.from('{"settings":{}}'), 'application/json; charset=iso-8859-1'],
    [400, Buffer.from('{"settings":'), 'application/json; charset="UTF-8"'],
  ])('%s for a body that is no JSON in UTF-8', async (status, body, type) => {
    const answer = await fetch(`${local.url}/v1/nodes/send-email/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${local.key}`, 'content-type': type },
      body,
    });
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({ status, code: expect.any(String), hint: expect.any(String) });
  });

  it.each([
    [400, 'GET /v1/%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'],
    [414, `GET /v1/deliveries/${'1'.repeat(500)} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`],
    [431, `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`],
    [400, 'hello\r\n\r\n'],
  ])('%s is answered with a problem and an id', async (status, bytes) => {
    const answer = await raw(bytes);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toMatch(/^content-type: application\/problem\+json/im);
    expect(answer).toMatch(/^x-request-id: [\w-]{36}/im);
    expect(JSON.parse(answer.slice(answer.indexOf('{')))).toMatchObject({ status, code: expect.any(String) });
  });

  const post = (path: string, body: string, type = 'application/json') =>
    [
      `POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${local.key}\r\nconnection: close`,
      `content-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    ].join('\r\n');

  it('what no route takes is not read', async () => {
    // Never sent: whoever waited for it would wait for the whole of the time a request may take.
    const head = 'HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n';
    const nowhere = await raw(`POST /nothing ${head}connection: close\r\n\r\n{`);
    expect(nowhere).toMatch(/^HTTP\/1\.1 404 /);
    const cancel = `/v1/deliveries/${crypto.randomUUID()}/cancel`;
    expect(await raw(post(cancel, `"${'x'.repeat(5_000)}"`))).toMatch(/^HTTP\/1\.1 413 /);
    expect(await raw(post(cancel, '', 'application/x-www-form-urlencoded'))).toMatch(/^HTTP\/1\.1 404 /);
  });

  it('bytes behind a request are no answer to it', async () => {
    const text = JSON.stringify({ settings: settings({ subject: 'and more' }) });
    const answer = await raw(`${post('/v1/nodes/send-email/runs', text)}}`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(inbox.messages.filter(({ subject }) => subject === 'and more')).toHaveLength(1);
    // Nor is a request behind it that cannot be read.
    const open = post('/v1/nodes/send-email/runs', text).replace('connection: close', 'x: y');
    const broken = 'POST /v1/previews HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n';
    expect(await raw(`${open}${broken}`)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('bytes behind a request that has no end hold nothing', async () => {
    const warnings: Error[] = [];
    const heed = (warning: Error): number => warnings.push(warning);
    process.on('warning', heed);
    const socket = connect(Number(new URL(local.url).port), '127.0.0.1');
    const answered = once(socket, 'data');
    socket.write(`GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${local.key}\r\n\r\n`);
    await answered;
    for (let one = 0; one < 40; one++) {
      socket.write('x');
      // So that each comes alone.
      await local.client.get('/healthz');
    }
    socket.destroy();
    process.off('warning', heed);
    expect(warnings).toEqual([]);
  });

  it('numbers are sent as they are written', async () => {
    const subject = 'no {{ input.n }}';
    const body = JSON.stringify({ settings: settings({ subject }), flow: { input: { n: 1 } } });
    const exact = body.replace('"n":1', '"n":12345678901234567890');
    expect(await raw(post('/v1/nodes/send-email/runs', exact))).toMatch(/^HTTP\/1\.1 200 /);
    expect(inbox.messages.at(-1)?.subject).toBe('no 12345678901234567890');
  });

  it('bodies are held up to a limit together, and one alone may be larger', async () => {
    const budget = new BodyBudget(100);
    const answering = () => Object.assign(new EventEmitter(), { destroyed: false, closed: false }) as never;
    const announce = (bytes: number, response = answering()) =>
      budget.announce({ 'content-length': String(bytes) }, 1_000, response);
    const first: EventEmitter = answering();
    announce(500, first as never);
    expect(() => announce(1)).toThrow(NoRoom);
    expect(() => announce(0)).not.toThrow();
    first.emit('close');
    announce(60);
    // Nobody is there any more, and nothing will say so.
    const gone = Object.assign(new EventEmitter(), { destroyed: true }) as never;
    expect(() => announce(1, gone)).toThrow(NoRoom);
    const chunked = answering();
    const counted = budget.counting(Readable.from([Buffer.alloc(30), Buffer.alloc(30)]), chunked);
    await expect(text(counted)).rejects.toThrow(NoRoom);
    (chunked as EventEmitter).emit('close');
    // What is done about it goes on though nobody waits for it.
    const left: EventEmitter = answering();
    announce(40, left as never);
    const work = Promise.withResolvers<void>();
    const until = budget.until(work.promise, left as never);
    left.emit('close');
    expect(() => announce(40)).toThrow(NoRoom);
    work.resolve();
    await until;
    announce(40);
  });

  it('a request has to wait while others hold all there is', async () => {
    const { port } = new URL(local.url);
    const head = (length: number) =>
      `POST /v1/previews HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${local.key}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;
    const holding = await Promise.all(
      [40, 40, 40, 40, 40, 40, 16].map(async (mib) => {
        const socket = connect(Number(port), '127.0.0.1');
        socket.write(head(mib * 1_048_576).replace('\r\n\r\n', '\r\nexpect: 100-continue\r\n\r\n'));
        await once(socket, 'data');
        return socket;
      }),
    );
    await expect.poll(async () => (await run({ subject: 'no room' })).status).toBe(503);
    const busy = await run({ subject: 'no room' });
    expect(busy.body).toMatchObject({ code: 'SERVER_BUSY', retryable: true });
    expect(busy.headers.get('retry-after')).toBe('1');
    const chunked = await raw(
      `${head(1).replace(/content-length: 1/, 'transfer-encoding: chunked\r\nconnection: close')}2\r\n{}\r\n0\r\n\r\n`,
    );
    expect(chunked).toMatch(/^HTTP\/1\.1 503 /);
    for (const socket of holding) socket.destroy();
    await expect.poll(async () => (await run({ subject: 'room again' })).status).toBe(200);
  });
});

it('what can never be used is not stored, and not put into the outbox', async () => {
  const connection = { service: 'Gmial', auth: { kind: 'basic', username: 'a', password: 'b' } };
  const create = (name: string, one: unknown) =>
    local.client.post('/v1/connections', { name, connection: one });
  expect((await create('typo', connection)).body).toMatchObject({ status: 422, code: 'SERVICE_UNKNOWN' });
  expect((await create('11111111-2222-3333-4444-555555555555', inbox.url)).status).toBe(422);
  expect((await run({ connection, async: true })).body).toMatchObject({
    status: 422,
    code: 'SERVICE_UNKNOWN',
  });
});

it('who waits for the outcome waits for a turn, or is told when to come back', async () => {
  await using other = await SmtpInbox.start();
  const over = ({ port }: SmtpInbox, messagesPerMinute: number) => ({
    connection: { host: '127.0.0.1', port, limits: { messagesPerMinute } },
  });
  const both = (connection: object) =>
    Promise.all([1, 2].map((turn) => run({ ...connection, subject: `turn ${turn}`, timeoutMs: 5_000 })));
  expect((await both(over(inbox, 20))).map(({ status }) => status)).toEqual([200, 200]);
  const late = (await both(over(other, 1))).find(({ status }) => status !== 200);
  expect(late?.body).toMatchObject({ status: 503, code: 'MESSAGE_DEFERRED', retryable: true });
  expect(Number(late?.headers.get('retry-after'))).toBeGreaterThan(10);
});

it('what somebody said was sent is a duplicate from then on', async () => {
  await using cut = await FaultServer.start({ stage: 'dot', fault: 'fin' });
  const again = () =>
    run({ connection: `smtp://127.0.0.1:${cut.port}`, subject: 'once', duplicateWindowMs: 60_000 });
  const first = await again();
  expect(first.body).toMatchObject({ code: 'DELIVERY_IN_DOUBT' });
  await local.client.post(`/v1/deliveries/${first.body.deliveryId}/resolve`, { outcome: 'sent' });
  expect((await again()).body).toMatchObject({ outcome: { receipt: { status: 'duplicate' } } });
  expect(cut.messages).toHaveLength(1);
});

it('lists what was not sent, by any of its states', async () => {
  const failed = await run({ connection: 'smtp://127.0.0.1:1', retry: { attempts: 1 } });
  const sent = await run({ subject: 'sent' });
  const ids = async (state: string) =>
    (await local.client.get(`/v1/deliveries?state=${state}`)).body.deliveries.map(
      ({ id }: { id: string }) => id,
    );
  for (const state of ['failed', 'failed,cancelled,partial', 'in-doubt,failed', 'failed,sent'])
    expect(await ids(state)).toContain(failed.body.deliveryId);
  for (const state of ['cancelled', 'queued,partial', 'in-doubt', 'sent'])
    expect(await ids(state)).not.toContain(failed.body.deliveryId);
  expect(await ids('sent,failed')).toContain(sent.body.deliveryId);
});

it('a preview is what the sandbox of the server lets out', async () => {
  await using strict = await startLocal({ FLOWPOST_SANDBOX_REDIRECT_TO: 'box@x.org' });
  const body = { node: 'send-email', settings: settings() };
  expect(String((await strict.client.post('/v1/previews', body)).body)).toMatch(/^To: .*box@x\.org/m);
  const { body: sent } = await strict.client.post('/v1/nodes/send-email/runs', { settings: settings() });
  const shown = await strict.client.get(`/v1/deliveries/${sent.deliveryId}/message`);
  expect(String(shown.body)).toMatch(/^To: .*box@x\.org/m);
  const trigger = { kind: 'email', from: 'box@x.org' };
  expect(await strict.client.post('/v1/previews', { ...body, flow: { trigger } })).toMatchObject({
    ...{ status: 422, body: { code: 'MAIL_LOOP_BLOCKED' } },
  });
});

it('a message is shown as it went out, whatever the sandbox of the server is now', async () => {
  await using folder = await temporaryFolder();
  const shown = async ({ client }: LocalServer, id: string) =>
    String((await client.get(`/v1/deliveries/${id}/message`)).body);
  const ids: string[] = [];
  let key = '';
  const sandboxed = { FLOWPOST_SANDBOX_REDIRECT_TO: 'Test Box <box@x.org>' };
  for (const environment of [{}, sandboxed]) {
    await using open = await startLocal(environment, { path: folder.path, key });
    key = open.key;
    const { body } = await open.client.post('/v1/nodes/send-email/runs', {
      settings: settings({ to: 'box@x.org', cc: 'ann@x.org' }),
    });
    ids.push(body.deliveryId);
  }
  for (const environment of [{}, sandboxed]) {
    await using open = await startLocal(environment, { path: folder.path, key });
    expect(await shown(open, ids[0] ?? '')).toMatch(/^To: box@x\.org\r\nCc: ann@x\.org/m);
    expect(await shown(open, ids[1] ?? '')).toMatch(/^To: .*box@x\.org/m);
    if (environment === sandboxed)
      expect(await shown(open, ids[1] ?? '')).toMatch(/^To: Test Box <box@x\.org>/m);
  }
  const refused = await run({ to: 'ann@x.org', sandbox: { allowDomains: ['ok.org'] } });
  expect(refused.body).toMatchObject({ code: 'RECIPIENT_NOT_ALLOWED' });
  expect(await shown(local, refused.body.deliveryId)).toMatch(/^To: .*ann@x\.org/m);
});

it('events that come from another database cluster are before all new ones', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  await using database = await openPglite(`${folder.path}/db`);
  for (const xid of ['900000000', '900000001', '3'])
    await database.query(
      "insert into flowpost.delivery_events (xid, delivery_id, state) values ($1::xid8, gen_random_uuid(), 'sent')",
      [xid],
    );
  await migrate(database);
  await database.query(
    "insert into flowpost.delivery_events (delivery_id, state) values (gen_random_uuid(), 'sent')",
  );
  const rows = await database.query<{ seq: string }>(
    'select seq::text from flowpost.delivery_events order by xid, seq',
  );
  expect(rows.map(({ seq }) => Number(seq))).toEqual([3, 1, 2, 4]);
  await database.query('insert into flowpost.migrations (version) values (99)');
  await expect(migrate(database)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
});

it('events are not held back while there are more, and a cursor of another cluster goes on', async () => {
  const headers = { authorization: `Bearer ${local.key}`, 'last-event-id': '900000000.0' };
  const listening = new AbortController();
  const { body } = await fetch(`${local.url}/v1/events`, { headers, signal: listening.signal });
  const { body: sent } = await run({ subject: 'after a move' });
  const reader = body?.getReader();
  let heard = '';
  const heardOf = async (): Promise<void> => {
    while (!heard.includes(sent.deliveryId)) heard += new TextDecoder().decode((await reader?.read())?.value);
  };
  await Promise.race([heardOf(), delay(10_000)]);
  expect(heard).toContain(sent.deliveryId);
  listening.abort();
});

it('events come as fast as they can be read, from where one was', async () => {
  await using folder = await temporaryFolder();
  const count = 20_000;
  {
    await putDatabase(`${folder.path}/database`);
    await using database = await openPglite(`${folder.path}/database`);
    await database.query(
      "insert into flowpost.delivery_events (delivery_id, state) select gen_random_uuid(), 'sent' from generate_series(1, $1)",
      [count],
    );
  }
  await using many = await startLocal({ FLOWPOST_NEW_API_KEY: 'true' }, { path: folder.path, key: '' });
  const listening = new AbortController();
  const { body } = await fetch(`${many.url}/v1/events?after=0.0`, {
    headers: { authorization: `Bearer ${many.key}` },
    signal: listening.signal,
  });
  let heard = 0;
  let pending = '';
  const hear = async (): Promise<void> => {
    for await (const chunk of body ?? []) {
      // One may come in two pieces.
      const events = (pending + Buffer.from(chunk)).split('\n\n');
      pending = events.pop() ?? '';
      heard += events.filter((one) => one.includes('event: delivery')).length;
      if (heard >= count) return;
    }
  };
  // With a pause after each five hundred it would take twenty seconds.
  await Promise.race([hear(), delay(15_000)]);
  expect(heard).toBe(count);
  listening.abort();
});

it('a rate limit is never exceeded in any 60 seconds', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  await using database = await openPglite(`${folder.path}/db`);
  for (const limit of [1, 7, 30, 120]) {
    const connection = { kind: 'smtp', host: `h${limit}`, limits: { messagesPerMinute: limit } } as never;
    const rate = new SharedRate(database);
    const begun = Date.now();
    const turns: number[] = [];
    for (let turn = 0; turn < 3 * limit + 2; turn++)
      turns.push(Date.now() - begun + (await rate.take(connection, 10_000_000, 'message')).waitMs);
    for (const from of turns)
      expect(turns.filter((at) => at >= from && at < from + 59_000).length).toBeLessThanOrEqual(limit);
    // And not for nothing less.
    expect(turns.at(-1)).toBeLessThan(60_000 * 4.5);
  }
});

it('who claims another limit for a mailbox holds up nobody, nor does another server on the same host', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  await using database = await openPglite(`${folder.path}/db`);
  const rate = new SharedRate(database);
  const turn = async (messagesPerMinute: number, more: object = {}) => {
    const limits = { messagesPerMinute };
    return (
      await rate.take({ kind: 'smtp', host: 'h', port: 25, limits, ...more } as never, 2_000, 'attempt')
    ).waitMs;
  };
  const auth = { kind: 'basic', username: 'u', password: 'p' };
  for (const more of [{}, { auth }]) {
    expect(await turn(1, more)).toBeLessThan(2_000);
    expect(await turn(1, more)).toBeGreaterThan(2_000);
    expect(await turn(600, more)).toBeLessThan(2_000);
  }
  expect(await turn(1, { port: 26 })).toBeLessThan(2_000);
  expect(await turn(1, { port: 26, auth })).toBeGreaterThan(2_000);
});

it('a clock that was set back is no reason to wait for a turn longer than one ever has to', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(`${folder.path}/db`);
  await using database = await openPglite(`${folder.path}/db`);
  const connection = { kind: 'smtp', host: 'h', limits: { messagesPerMinute: 60 } } as never;
  const rate = new SharedRate(database);
  await rate.take(connection, 60_000, 'attempt');
  await database.query("update flowpost.rate_slots set next_at = next_at + interval '1 hour'");
  const waits: number[] = [];
  for (let turn = 0; turn < 3; turn++) waits.push((await rate.take(connection, 2_000, 'attempt')).waitMs);
  expect(Math.max(...waits)).toBeLessThanOrEqual(2_500);
});

it('whoever listens goes on after the data was moved to another cluster, and misses nothing', async () => {
  await using folder = await temporaryFolder();
  await putDatabase(`${folder.path}/database`);
  {
    await using database = await openPglite(`${folder.path}/database`);
    await database.query(
      `insert into flowpost.delivery_events (xid, delivery_id, state)
       select (900000000 + n)::text::xid8, gen_random_uuid(), 'sent' from generate_series(1, 5) as n`,
    );
  }
  await using moved = await startLocal({ FLOWPOST_NEW_API_KEY: 'true' }, { path: folder.path, key: '' });
  const listening = new AbortController();
  const { body } = await fetch(`${moved.url}/v1/events`, {
    headers: { authorization: `Bearer ${moved.key}`, 'last-event-id': '900000002.2' },
    signal: listening.signal,
  });
  let heard = '';
  const hear = async (): Promise<void> => {
    for await (const chunk of body ?? []) {
      heard += Buffer.from(chunk);
      if (/\.5\n[\s\S]*\n\n/.test(heard)) return;
    }
  };
  await Promise.race([hear(), delay(10_000)]);
  listening.abort();
  expect([...heard.matchAll(/^id: \d+\.(\d+)$/gm)].map(([, seq]) => seq)).toEqual(['3', '4', '5']);
});
