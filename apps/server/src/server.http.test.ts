import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalServer, startLocal } from './testing/local-server.test-support.ts';

let local: LocalServer;
let inbox: SmtpInbox;
const password = 'hunter2-S3cret';

beforeAll(async () => {
  inbox = await SmtpInbox.start({ users: { 'me@x.org': password } });
  local = await startLocal();
  const connection = {
    host: '127.0.0.1',
    port: inbox.port,
    auth: { kind: 'basic', username: 'me@x.org', password },
  };
  await local.client.post('/v1/connections', { name: 'mail', connection });
});
afterAll(async () => {
  await local[Symbol.asyncDispose]();
  await inbox.close();
});

let count = 0;
const settings = (more: object = {}) => ({
  connection: '@mail',
  from: 'me@x.org',
  to: 'ann@x.org',
  subject: `Message ${++count}`,
  text: 'Hello',
  ...more,
});
const run = (more: object = {}, body: object = {}, headers: Record<string, string> = {}) =>
  local.client.post('/v1/nodes/send-email/runs', { settings: settings(more), ...body }, headers);
const settled = async (id: string, ends = ['sent', 'failed', 'in-doubt', 'partial']) => {
  await expect
    .poll(async () => (await local.client.get(`/v1/deliveries/${id}`)).body.state)
    .toSatisfy((state: string) => ends.includes(state));
  return (await local.client.get(`/v1/deliveries/${id}`)).body;
};
const arrived = (subject: string) => inbox.messages.filter((mail) => mail.subject === subject);

describe('the document of the API', () => {
  it('is valid OpenAPI 3.1', async () => {
    const { body } = await local.client.get('/openapi.json');
    const result = await new Validator().validate(body);
    expect(result).toMatchObject({ valid: true });
    expect(body.openapi).toBe('3.1.0');
  });
});

describe('runs', () => {
  it('sends, stores the result, and remembers the delivery with all that happened to it', async () => {
    const { status, body, headers } = await run(
      { store: { target: 'context', key: 'mail.result' } },
      { flow: { context: { mail: { keep: 1 } }, input: { name: 'Ann' } } },
    );
    expect([status, body.outcome.receipt.status]).toEqual([200, 'sent']);
    expect(body.flow).toMatchObject({
      input: { name: 'Ann' },
      context: { mail: { keep: 1, result: { status: 'sent' } } },
    });
    expect(headers.get('location')).toBe(`/v1/deliveries/${body.deliveryId}`);
    const { body: delivery } = await local.client.get(`/v1/deliveries/${body.deliveryId}`);
    expect(delivery).toMatchObject({ state: 'sent', mode: 'sync', attempt: 1, recipients: ['ann@x.org'] });
    expect(delivery.events.map((event: { state: string }) => event.state)).toEqual([
      'sending',
      'committing',
      'sent',
    ]);
  });

  it('works out expressions, and runs the nodes of other platforms', async () => {
    const { body } = await local.client.post('/v1/nodes/cognigy.send-smtp-email/runs', {
      settings: {
        emailService: 'other',
        smtpSettings: { host: '127.0.0.1', port: inbox.port, secure: false },
        authentication: { type: 'basic', username: 'me@x.org', password },
        ...{ to: '{{ input.to }}', subject: 'Cognigy {{ input.n }}', content: '<p>Hi</p>' },
        ...{ storeResult: 'input', inputKey: 'mail' },
      },
      flow: { input: { to: 'ann@x.org', n: 7 } },
    });
    expect(body.flow.input.mail).toMatchObject({ status: 'sent' });
    expect(arrived('Cognigy 7')).toHaveLength(1);
  });

  it('an asynchronous run is answered at once, and its outcome can be asked for', async () => {
    const { status, body } = await run({ async: true, store: { target: 'input', key: 'r' } });
    expect([status, body.outcome.receipt.status, body.flow.input.r.status]).toEqual([
      202,
      'queued',
      'queued',
    ]);
    const delivery = await settled(body.deliveryId);
    expect(delivery).toMatchObject({ state: 'sent', mode: 'async', store: { target: 'input', key: 'r' } });
    expect(delivery.receipt.messageId).toBe(body.outcome.receipt.messageId);
  });

  it.each([
    [true, 502],
    [false, 200],
  ])(
    'with stopOnError %s a refusal is answered with %d, the error stored either way',
    async (stopOnError, status) => {
      await using refusing = await SmtpInbox.start({
        refuse: { rcptTo: () => ({ code: 550, text: '5.1.1 unknown' }) },
      });
      const answer = await run({
        connection: refusing.url,
        stopOnError,
        store: { target: 'context', key: 'mail' },
      });
      expect(answer.status).toBe(status);
      const { outcome, flow } = answer.body;
      expect(outcome).toMatchObject({
        kind: stopOnError ? 'halt' : 'continue',
        error: { code: 'RECIPIENTS_REFUSED' },
      });
      expect(flow.context.mail.error.code).toBe('RECIPIENTS_REFUSED');
      if (stopOnError)
        expect(answer.body).toMatchObject({
          code: 'RECIPIENTS_REFUSED',
          phase: 'envelope',
          hint: expect.any(String),
        });
    },
  );

  it('the loop guard and the duplicate guard hold over HTTP', async () => {
    const trigger = { kind: 'email', from: 'Ann <ann@x.org>' };
    expect((await run({}, { flow: { trigger } })).body).toMatchObject({
      status: 422,
      code: 'MAIL_LOOP_BLOCKED',
    });
    const queued = await run({ async: true }, { flow: { trigger } });
    expect(await settled(queued.body.deliveryId)).toMatchObject({
      state: 'failed',
      error: { code: 'MAIL_LOOP_BLOCKED' },
    });

    const same = { subject: 'the same', duplicateWindowMs: 60_000 };
    const first = await run(same);
    const second = await run(same);
    const third = await run({ ...same, async: true });
    expect([first, second].map(({ body }) => body.outcome.receipt.status)).toEqual(['sent', 'duplicate']);
    expect(await settled(third.body.deliveryId)).toMatchObject({ receipt: { status: 'duplicate' } });
    expect(arrived('the same')).toHaveLength(1);
  });

  it('what is in doubt is listed, and a person says what it is', async () => {
    await using cut = await FaultServer.start({ stage: 'dot', fault: 'fin' });
    const ids: string[] = [];
    for (const async of [true, false, true]) {
      const { body } = await run({ connection: `smtp://127.0.0.1:${cut.port}`, async });
      ids.push(body.deliveryId);
      expect(await settled(body.deliveryId)).toMatchObject({ state: 'in-doubt', error: { inDoubt: true } });
    }
    const listed = await local.client.get('/v1/deliveries?state=in-doubt');
    expect(listed.body.deliveries.map((one: { id: string }) => one.id).toSorted()).toEqual(ids.toSorted());
    expect(cut.messages).toHaveLength(3);
    const resolve = (id: string | undefined, outcome: string) =>
      local.client.post(`/v1/deliveries/${id}/resolve`, { outcome });
    expect((await resolve(ids[0], 'sent')).body.state).toBe('sent');
    expect((await resolve(ids[1], 'not-sent')).body.state).toBe('failed');
    expect((await resolve(ids[2], 'resend')).body.state).toMatch(/queued|sending|committing|in-doubt/);
    expect(await settled(ids[2] ?? '')).toMatchObject({ state: 'in-doubt', attempt: 2 });
    expect((await resolve(ids[0], 'sent')).body).toMatchObject({ status: 409, code: 'DELIVERY_STATE_WRONG' });
  });

  it('what the server puts off is tried again, and can be cancelled and put back', async () => {
    let later = true;
    await using busy = await SmtpInbox.start({
      refuse: { mailFrom: () => (later ? { code: 451, text: '4.7.1 greylisted' } : undefined) },
    });
    const { body } = await run({ connection: busy.url, async: true });
    const waiting = await settled(body.deliveryId, ['queued']);
    await expect
      .poll(async () => (await local.client.get(`/v1/deliveries/${body.deliveryId}`)).body.error?.code)
      .toBe('SENDER_DEFERRED');
    expect(waiting.attempt).toBeGreaterThanOrEqual(0);
    const cancelled = await local.client.post(`/v1/deliveries/${body.deliveryId}/cancel`);
    expect(cancelled.body).toMatchObject({ state: 'cancelled' });
    later = false;
    expect((await local.client.post(`/v1/deliveries/${body.deliveryId}/retry`)).status).toBe(200);
    expect(await settled(body.deliveryId)).toMatchObject({ state: 'sent' });
    expect(busy.messages).toHaveLength(1);
  });

  it('the exact bytes can be looked at before and after', async () => {
    const preview = await local.client.post('/v1/previews', {
      node: 'send-email',
      settings: settings({ subject: 'Look' }),
    });
    expect(preview.body).toContain('Subject: Look');
    const { body } = await run({ subject: 'Kept' });
    expect((await local.client.get(`/v1/deliveries/${body.deliveryId}/message`)).body).toContain(
      'Subject: Kept',
    );
  });
});

describe('Idempotency-Key', () => {
  it('the same request gets the same answer, another one is a conflict, fifty at once send one message', async () => {
    const body = { settings: settings({ subject: 'once' }) };
    const post = (given: object, key: string) =>
      local.client.post('/v1/nodes/send-email/runs', given, { 'idempotency-key': key });
    const answers = await Promise.all(Array.from({ length: 50 }, () => post(body, 'order-1')));
    for (const answer of answers) expect(answer.body).toEqual(answers[0]?.body);
    expect(arrived('once')).toHaveLength(1);
    const other = await post({ settings: settings({ subject: 'other' }) }, 'order-1');
    expect([other.status, other.body.code]).toEqual([409, 'IDEMPOTENCY_CONFLICT']);
    const queued = { settings: settings({ subject: 'once later', async: true }) };
    const later = await Promise.all(Array.from({ length: 20 }, () => post(queued, 'order-2')));
    for (const answer of later) expect(answer.body).toEqual(later[0]?.body);
    await settled(later[0]?.body.deliveryId);
    expect(arrived('once later')).toHaveLength(1);
  });

  it('a failure is answered the same way again, and not tried again', async () => {
    const body = {
      settings: settings({ subject: 'fails', connection: 'smtp://127.0.0.1:2', retry: { attempts: 1 } }),
    };
    const post = () => local.client.post('/v1/nodes/send-email/runs', body, { 'idempotency-key': 'fails' });
    const [first, second] = [await post(), await post()];
    expect([first.status, second.status]).toEqual([503, 503]);
    expect(second.body.outcome).toEqual(first.body.outcome);
    expect(second.body.deliveryId).toBe(first.body.deliveryId);
  });
});

describe('connections', () => {
  it('are stored, changed at once, verified, and never read back', async () => {
    const { client } = local;
    const created = await client.post('/v1/connections', {
      name: 'second',
      connection: `smtp://me@x.org:wrong@127.0.0.1:${inbox.port}`.replace('me@', 'me%40'),
    });
    expect(created.status).toBe(201);
    const report = await client.post('/v1/connections/second/verify');
    expect(report.body.steps.find((step: { step: string }) => step.step === 'auth')).toMatchObject({
      status: 'failed',
    });
    expect((await run({ connection: '@second' })).body.code).toBe('AUTH_REFUSED');
    const connection = `smtp://me%40x.org:${password}@127.0.0.1:${inbox.port}`;
    await client.call('PATCH', '/v1/connections/second', { connection });
    expect((await run({ connection: '@second' })).body.outcome.receipt.status).toBe('sent');
    expect((await client.call('PATCH', '/v1/connections/second', { name: 'mail' })).body.code).toBe(
      'CONNECTION_NAME_TAKEN',
    );
    expect((await client.post('/v1/connections', { name: 'mail', connection })).status).toBe(409);
    const all = [await client.get('/v1/connections'), await client.get('/v1/connections/second')];
    expect(JSON.stringify(all)).not.toContain(password);
    expect((await client.call('DELETE', `/v1/connections/second`)).status).toBe(204);
    expect((await client.get('/v1/connections/second')).body).toMatchObject({
      status: 404,
      code: 'CONNECTION_NOT_FOUND',
    });
    expect((await run({ connection: '@second' })).status).toBe(404);
  });

  it('warn before a credential expires', async () => {
    const clientSecretExpiresAt = new Date(Date.now() + 3 * 86_400_000).toISOString();
    const auth = {
      kind: 'oauth2-client-credentials',
      user: 'me@x.org',
      tenantId: 't',
      clientId: 'c',
      clientSecret: password,
      clientSecretExpiresAt,
    };
    const { body } = await local.client.post('/v1/connections', {
      name: 'soon',
      connection: { host: 'smtp.example.com', auth },
    });
    expect(body.warnings).toEqual([expect.stringMatching(/client secret expires in [23] days/)]);
    expect(body.expires).toEqual([{ what: 'client secret', at: clientSecretExpiresAt }]);
    const metrics = async (): Promise<string> =>
      (await fetch(`${local.url}/metrics`, { headers: { authorization: `Bearer ${local.key}` } })).text();
    expect(await metrics()).toMatch(
      /flowpost_credential_expires_seconds\{connection="soon",what="client secret"\} 2\d{5}/,
    );
    await local.client.call('DELETE', '/v1/connections/soon');
    expect(await metrics()).not.toContain('"soon"');
  });
});

describe('who may call', () => {
  it('keys have scopes, are shown once, and can be taken back', async () => {
    const { client } = local;
    const { body: made } = await client.post('/v1/api-keys', { name: 'flows', scopes: ['send'] });
    const limited = client.as(made.key);
    expect((await limited.get('/v1/nodes')).body.nodes).toHaveLength(5);
    expect((await limited.get('/v1/connections')).body).toMatchObject({ status: 403, code: 'SCOPE_MISSING' });
    expect(JSON.stringify((await client.get('/v1/api-keys')).body)).not.toContain(made.key.slice(16));
    expect((await client.call('DELETE', `/v1/api-keys/${made.id}`)).status).toBe(204);
    expect((await limited.get('/v1/nodes')).body).toMatchObject({ status: 401, code: 'KEY_REFUSED' });
    expect((await client.call('DELETE', '/v1/api-keys/nothing')).status).toBe(404);
  });

  it.each([
    '',
    'fp_',
    'fp_000000000000_',
    'x'.repeat(500),
    'fp_ffffffffffff_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  ])('a key such as %j is refused', async (key) => {
    expect((await local.client.as(key).get('/v1/nodes')).status).toBe(401);
  });
});

describe('operations', () => {
  it('health, readiness and metrics without secrets or addresses', async () => {
    expect((await local.client.get('/healthz')).body).toEqual({ status: 'ok' });
    expect((await local.client.get('/readyz')).body).toEqual({ status: 'ready' });
    const { body } = await local.client.get('/metrics');
    expect(body).toMatch(/flowpost_delivered_total\{status="sent"\} \d+/);
    expect(body).toMatch(/flowpost_deliveries\{state="in-doubt"\} \d+/);
    expect(body).toMatch(
      /flowpost_failed_attempts_total\{code="DELIVERY_IN_DOUBT",phase="confirm",state="in-doubt"\}/,
    );
    expect(body).not.toMatch(/ann@x|hunter2/);
  });

  it('events tell of changes as they happen', async () => {
    const stop = new AbortController();
    const response = await fetch(`${local.url}/v1/events`, {
      headers: { authorization: `Bearer ${local.key}` },
      signal: stop.signal,
    });
    const { body } = await run({ async: true });
    const seen: string[] = [];
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      for (const [, data = ''] of decoder.decode(chunk as Uint8Array).matchAll(/^data: (.+)$/gm)) {
        const event = JSON.parse(data);
        if (event.delivery === body.deliveryId) seen.push(event.state);
      }
      if (seen.includes('sent')) break;
    }
    stop.abort();
    expect(seen).toEqual(['queued', 'sending', 'committing', 'sent']);
  });

  it('a key that is taken back hears no more, and the header says where to go on', async () => {
    const { body: made } = await local.client.post('/v1/api-keys', { name: 'listener', scopes: ['admin'] });
    await run({});
    const listen = (headers: Record<string, string> = {}) =>
      fetch(`${local.url}/v1/events?after=0.0`, {
        headers: { authorization: `Bearer ${made.key}`, ...headers },
      });
    const stop = await listen();
    const reader = stop.body?.getReader();
    let heard = '';
    while (!/^data: .*"sent"/m.test(heard)) heard += new TextDecoder().decode((await reader?.read())?.value);
    const last = [...heard.matchAll(/^id: (.+)$/gm)].at(-1)?.[1] ?? '';
    const again = (await listen({ 'last-event-id': last })).body?.getReader();
    await local.client.call('DELETE', `/v1/api-keys/${made.id}`);
    let rest = '';
    for (let part = await again?.read(); part?.done === false; part = await again?.read())
      rest += new TextDecoder().decode(part.value);
    expect(rest).not.toContain(`id: ${last}\n`);
    await reader?.cancel();
  });

  it('answers carry the usual protection, and the id of the request', async () => {
    const { headers } = await local.client.get('/healthz');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('content-security-policy')).toContain("default-src 'self'");
    expect(headers.get('access-control-allow-origin')).toBeNull();
    expect(headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('nothing secret is in the data folder in clear', async () => {
    await run({ connection: `smtp://me%40x.org:${password}@127.0.0.1:${inbox.port}`, async: true });
    const files = await readdir(local.folder, { recursive: true, withFileTypes: true });
    let bytes = 0;
    for (const file of files.filter((one) => one.isFile())) {
      const content = await readFile(join(file.parentPath, file.name));
      bytes += content.length;
      expect(content.includes(password), file.name).toBe(false);
      expect(content.includes(local.key.slice(16)), file.name).toBe(false);
    }
    expect(bytes).toBeGreaterThan(1_000_000);
  });
});

it('every operation of the document was called, and every answer fits it', () => {
  const { called, operations } = local.client;
  expect(operations.filter((one) => !called.has(one)).toSorted()).toEqual(['events']);
});
