import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OAuthServer, SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { startLocal, temporaryFolder } from './testing/local-server.test-support.ts';

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
  await expect(failed.then(() => 'started')).rejects.toMatchObject({ code: 'EADDRINUSE' });
  await using local = await startLocal({}, { path: folder.path, key: '' });
  expect(local.key).not.toBe('');
  expect((await local.client.get('/v1/nodes')).status).toBe(200);
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
