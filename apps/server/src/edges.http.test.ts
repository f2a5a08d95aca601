import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrate, rebasedXid } from './database/migrate.ts';
import { openPglite } from './database/pglite.ts';
import { BodyBudget } from './http/body-budget.ts';
import { type LocalServer, startLocal, temporaryFolder } from './testing/local-server.test-support.ts';

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

  it('bodies are held up to a limit together, and one alone may be larger', async () => {
    const budget = new BodyBudget(100);
    const closes: (() => void)[] = [];
    const response = { once: (_: string, close: () => void) => closes.push(close) } as never;
    expect(budget.take({ 'content-length': '500' }, 1_000, response)).toBe(true);
    expect(budget.take({ 'content-length': '1' }, 1_000, response)).toBe(false);
    expect(budget.take({}, 1_000, response)).toBe(true);
    closes.shift()?.();
    expect(budget.take({ 'content-length': '60' }, 1_000, response)).toBe(true);
    expect(budget.take({ 'transfer-encoding': 'chunked' }, 50, response)).toBe(false);
    expect(budget.take({ 'content-length': '40' }, 1_000, response)).toBe(true);
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

it('events that come from another database cluster are before all new ones', async () => {
  await using folder = await temporaryFolder();
  await using database = await openPglite(`${folder.path}/db`);
  await migrate(database);
  for (const xid of ['900000000', '900000001', '3'])
    await database.query(
      "insert into flowpost.delivery_events (xid, delivery_id, state) values ($1::xid8, gen_random_uuid(), 'sent')",
      [xid],
    );
  await migrate(database);
  const rows = await database.query<{ xid: string; seq: string }>(
    'select xid::text, seq::text from flowpost.delivery_events order by xid, seq',
  );
  expect(rows.map(({ xid }) => xid)).toEqual([rebasedXid, rebasedXid, rebasedXid]);
  expect(rows.map(({ seq }) => Number(seq))).toEqual([1, 2, 3]);
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
