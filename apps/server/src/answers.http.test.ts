import { SmtpInbox } from '@flowpost/testing';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { default as formats } from 'ajv-formats';
import { expect, it } from 'vitest';
import { startLocal } from './testing/local-server.test-support.ts';

const settings = (connection: string, more: object = {}) => ({
  ...{ connection, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x', retry: { attempts: 1 } },
  ...more,
});

it('a message to nobody is not put into the outbox', async () => {
  await using local = await startLocal();
  for (const async of [true, false]) {
    const { body } = await local.client.post('/v1/nodes/send-email/runs', {
      settings: settings('smtp://127.0.0.1:1', { to: [], async }),
    });
    expect(body).toMatchObject({ status: 422, code: 'RECIPIENTS_MISSING' });
  }
  expect((await local.client.get('/v1/deliveries')).body.deliveries).toEqual([]);
});

it('the answer to a key stays, says how to try again, and is what came of that', async () => {
  let later = true;
  await using inbox = await SmtpInbox.start({
    refuse: { mailFrom: () => (later ? { code: 451, text: '4.7.1 greylisted' } : undefined) },
  });
  await using local = await startLocal();
  const run = () =>
    local.client.post(
      '/v1/nodes/send-email/runs',
      { settings: settings(inbox.url) },
      { 'idempotency-key': 'one' },
    );
  const first = await run();
  expect(first.body).toMatchObject({ status: 503, code: 'SENDER_DEFERRED', retryable: true });
  const { deliveryId } = first.body;
  expect(first.body.hint).toContain(`POST /v1/deliveries/${deliveryId}/retry`);
  later = false;
  expect((await run()).body).toMatchObject({ status: 503, deliveryId });
  await local.client.post(`/v1/deliveries/${deliveryId}/retry`);
  const state = async () => (await local.client.get(`/v1/deliveries/${deliveryId}`)).body.state;
  await expect.poll(state).toBe('sent');
  const again = await run();
  expect(again.status).toBe(200);
  expect(again.body).toMatchObject({
    deliveryId,
    outcome: { receipt: { status: 'sent', accepted: ['b@x.org'] } },
  });
  expect(inbox.messages).toHaveLength(1);
});

it('the last key that can make others stays, and who has lost it gets another at a start', async () => {
  const first = await startLocal();
  const { body } = await first.client.get('/v1/api-keys');
  const [{ id }] = body.keys;
  expect((await first.client.call('DELETE', `/v1/api-keys/${id}`)).body).toMatchObject({
    status: 409,
    code: 'KEY_IS_LAST',
  });
  const { body: other } = await first.client.post('/v1/api-keys', { name: 'other', scopes: ['admin'] });
  expect((await first.client.call('DELETE', `/v1/api-keys/${id}`)).status).toBe(204);
  await first.server[Symbol.asyncDispose]();
  {
    const environment = { FLOWPOST_NEW_API_KEY: 'true' };
    await using again = await startLocal(environment, { path: first.folder, key: other.key });
    expect(again.key).not.toBe(other.key);
    expect((await again.client.get('/v1/api-keys')).body.keys).toHaveLength(2);
  }
  await first[Symbol.asyncDispose]();
});

it('what may be written passes the schema that is published, and nothing else', async () => {
  await using local = await startLocal();
  const { body } = await local.client.get('/v1/nodes');
  const ajv = new Ajv2020({ strict: false });
  (formats as unknown as (ajv: Ajv2020) => void)(ajv);
  const { settingsSchema } = body.nodes.find(({ type }: { type: string }) => type === 'send-email');
  const isValid = ajv.compile(settingsSchema);
  const auth = { kind: 'basic', username: 'u', password: 'p' };
  for (const connection of ['@mail', 'smtps://u:p@x.org', { service: 'Gmail', auth }, { host: 'x.org' }])
    expect(isValid({ ...settings('x'), connection })).toBe(true);
  expect(isValid(settings('@mail', { priority: '{{ input.p }}', attachments: { $variable: 'files' } }))).toBe(
    true,
  );
  for (const wrong of [{ priority: 'soon' }, { subjct: 'x' }, { connection: { hosts: 'x.org' } }])
    expect(isValid({ ...settings('@mail'), ...wrong })).toBe(false);
});

it('a connection that is not there is a mistake like others: the flow says what becomes of it', async () => {
  await using local = await startLocal();
  const run = (more: object) =>
    local.client.post('/v1/nodes/send-email/runs', { settings: settings('@nope', more) });
  expect((await run({})).body).toMatchObject({
    status: 404,
    code: 'CONNECTION_NOT_FOUND',
    outcome: { kind: 'halt' },
  });
  const store = { target: 'context', key: 'mail' };
  expect((await run({ stopOnError: false, store })).body).toMatchObject({
    outcome: { kind: 'continue', error: { code: 'CONNECTION_NOT_FOUND' } },
    flow: { context: { mail: { error: { code: 'CONNECTION_NOT_FOUND' } } } },
  });
});

it('events go on from one that is known, and from no other', async () => {
  await using local = await startLocal();
  const headers = { authorization: `Bearer ${local.key}`, 'last-event-id': 'bogus' };
  expect((await fetch(`${local.url}/v1/events`, { headers })).status).toBe(422);
});
