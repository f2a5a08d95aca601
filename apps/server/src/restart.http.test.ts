import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { OAuthServer, SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { Client } from './testing/client.test-support.ts';
import { type LocalServer, startLocal, temporaryFolder } from './testing/local-server.test-support.ts';
import { ServerProcess } from './testing/server-process.test-support.ts';

it('what was known before a restart is known after it', async () => {
  await using folder = await temporaryFolder();
  await using issuer = await OAuthServer.start({ secrets: { app: 'S3cret' } });
  await using inbox = await SmtpInbox.start();
  const body = (more: object = {}) => ({
    settings: {
      connection: '@mail',
      from: 'a@x.org',
      to: 'b@x.org',
      subject: 'Hi',
      text: 'x',
      retry: { attempts: 1 },
      ...more,
    },
  });
  const auth = {
    kind: 'oauth2-client-credentials',
    user: 'a@x.org',
    tokenEndpoint: issuer.tokenEndpoint,
    clientId: 'app',
    clientSecret: 'S3cret',
  };
  let key = '';
  const ids: string[] = [];
  for (const start of [1, 2]) {
    await using local = await startLocal({}, { path: folder.path, key });
    if (start === 1) {
      key = local.key;
      await local.client.post('/v1/connections', { name: 'mail', connection: inbox.url });
      await local.client.post('/v1/connections', {
        name: 'oauth',
        connection: { host: '127.0.0.1', port: inbox.port, auth },
      });
    } else {
      expect(local.server.firstKey).toBeUndefined();
    }
    const run = (more: object, headers = {}) =>
      local.client.post('/v1/nodes/send-email/runs', body(more), headers);
    // The server has no login, so this goes no further than the token, which is asked for once.
    expect((await run({ connection: '@oauth' })).body.code).toBe('AUTH_NOT_OFFERED');
    const guarded = await run({ subject: 'guarded', duplicateWindowMs: 3_600_000 });
    expect(guarded.body.outcome.receipt.status).toBe(start === 1 ? 'sent' : 'duplicate');
    ids.push((await run({ subject: 'key' }, { 'idempotency-key': 'k' })).body.deliveryId);
  }
  expect(ids[1]).toBe(ids[0]);
  expect(issuer.requests).toHaveLength(1);
  expect(inbox.messages.map(({ subject }) => subject)).toEqual(['guarded', 'key']);
});

it('a folder belongs to one process at a time', async () => {
  await using folder = await temporaryFolder();
  const first = await startLocal({}, { path: folder.path, key: '' });
  const second = startLocal({}, { path: folder.path, key: '' });
  await expect(second.then(() => 'started')).rejects.toMatchObject({ code: 'FOLDER_IN_USE' });
  await first[Symbol.asyncDispose]();
  // What a process left that was killed.
  writeFileSync(join(folder.path, 'server.lock'), '{"pid":999999999}');
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(join(folder.path, 'server.lock'), longAgo, longAgo);
  await using _again = await startLocal({}, { path: folder.path, key: '' });
});

it.each([{ PORT: '70000' }, { FLOWPOST_CONCURRENCY: 'many' }, { LOG_LEVEL: 'loud' }])(
  'settings that are wrong (%j) are named',
  async (environment) => {
    const [name = ''] = Object.keys(environment);
    await expect(startLocal(environment)).rejects.toMatchObject({ message: expect.stringContaining(name) });
  },
);

it('the first key is made when somebody can be shown it', async () => {
  await using folder = await temporaryFolder();
  await using taken = await SmtpInbox.start();
  const failed = startLocal({ PORT: `${taken.port}` }, { path: folder.path, key: '' });
  await expect(failed.then(() => 'started')).rejects.toMatchObject({
    code: 'CONNECTION_INVALID',
    details: { reason: 'EADDRINUSE' },
  });
  await using local = await startLocal({}, { path: folder.path, key: '' });
  expect(local.key).not.toBe('');
  expect((await local.client.get('/v1/nodes')).status).toBe(200);
});

it('an outbox that is paused sends nothing until somebody has looked at it', async () => {
  await using folder = await temporaryFolder();
  await using inbox = await SmtpInbox.start();
  const put = async (local: LocalServer, subject: string): Promise<string> => {
    const settings = {
      connection: inbox.url,
      from: 'a@x.org',
      to: 'b@x.org',
      subject,
      text: 'x',
      async: true,
    };
    return (await local.client.post('/v1/nodes/send-email/runs', { settings })).body.deliveryId;
  };
  const paused = await startLocal({ FLOWPOST_OUTBOX_PAUSED: 'true' }, { path: folder.path, key: '' });
  const unwanted = await put(paused, 'unwanted');
  await put(paused, 'wanted');
  await delay(1_000);
  expect((await paused.client.get('/v1/deliveries?state=queued')).body.deliveries).toHaveLength(2);
  expect((await paused.client.post(`/v1/deliveries/${unwanted}/cancel`, {})).body.state).toBe('cancelled');
  await paused[Symbol.asyncDispose]();
  await using local = await startLocal({}, { path: folder.path, key: paused.key });
  await put(local, 'later');
  await expect.poll(() => inbox.messages.map(({ subject }) => subject)).toEqual(['wanted', 'later']);
});

it('a terminal that is closed says so more than once, and what is under way ends in good order', async () => {
  await using folder = await temporaryFolder();
  const taken = Promise.withResolvers<undefined>();
  await using inbox = await SmtpInbox.start({ refuse: { message: () => taken.promise } });
  const server = await ServerProcess.start({ FLOWPOST_DATA: folder.path });
  const client = await Client.connect(server.url, server.firstKey ?? '');
  const settings = { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x' };
  const running = client.post('/v1/nodes/send-email/runs', { settings });
  await expect.poll(() => inbox.connections).toBe(1);
  const ended = server.end('SIGHUP');
  await delay(20);
  process.kill(server.pid, 'SIGHUP');
  await delay(200);
  taken.resolve(undefined);
  expect([(await running).status, await ended]).toEqual([200, 0]);
});

it('a server that ends waits for a token that nobody waits for any more, and keeps it', async () => {
  await using folder = await temporaryFolder();
  let isSlow = true;
  await using issuer = await OAuthServer.start({
    secrets: { app: 'secret' },
    answersAfter: () => delay(isSlow ? 1_500 : 0),
  });
  await using inbox = await SmtpInbox.start({ tokens: {} });
  const auth = {
    ...{ kind: 'oauth2-refresh', user: 'me', clientId: 'app', clientSecret: 'secret' },
    ...{ refreshToken: await issuer.issueRefreshToken('app', 'me'), tokenEndpoint: issuer.tokenEndpoint },
  };
  const run = (local: LocalServer, more: object = {}) => {
    const settings = {
      connection: '@mail',
      from: 'a@x.org',
      to: 'b@x.org',
      subject: 'Hi',
      text: 'x',
      ...more,
    };
    return local.client.post('/v1/nodes/send-email/runs', { settings });
  };
  const first = await startLocal({}, { path: folder.path, key: '' });
  await first.client.post('/v1/connections', {
    name: 'mail',
    connection: { host: '127.0.0.1', port: inbox.port, auth },
  });
  expect((await run(first, { timeoutMs: 300 })).body.code).toBe('SEND_TIMED_OUT');
  await first[Symbol.asyncDispose]();
  isSlow = false;
  await using second = await startLocal({}, { path: folder.path, key: first.key });
  await run(second, { retry: { attempts: 1 } });
  // The mail server takes no token at all, so the second one asks for another with what the first one had kept.
  expect([issuer.requests.length, issuer.refusals]).toEqual([2, []]);
});

it('a run that ends in time does not make the end wait for its connection', async () => {
  const answered = Promise.withResolvers<undefined>();
  await using inbox = await SmtpInbox.start({ refuse: { mailFrom: () => answered.promise } });
  // Far longer than this test may take.
  const local = await startLocal({ FLOWPOST_GRACE_SECONDS: '3600' });
  const settings = { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x' };
  const running = local.client.post('/v1/nodes/send-email/runs', { settings });
  await expect.poll(() => inbox.connections).toBe(1);
  const stopped = local[Symbol.asyncDispose]();
  answered.resolve(undefined);
  expect((await running).status).toBe(200);
  await stopped;
});
