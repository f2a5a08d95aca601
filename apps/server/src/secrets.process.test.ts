import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OAuthServer, SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { Client } from './testing/client.test-support.ts';
import { temporaryFolder } from './testing/local-server.test-support.ts';
import { ServerProcess } from './testing/server-process.test-support.ts';

const password = 'hunter2-S3cret/ü:@';
const clientSecret = 'cl1ent~S3cret&more';

it('no secret is in the data folder, the log, the metrics or any answer', async () => {
  await using folder = await temporaryFolder();
  await using issuer = await OAuthServer.start({ secrets: { app: clientSecret } });
  await using inbox = await SmtpInbox.start({ users: { me: password } });
  const server = await ServerProcess.start({ FLOWPOST_DATA: folder.path, LOG_LEVEL: 'debug' });
  const firstKey = server.firstKey ?? '';
  const admin = await Client.connect(server.url, firstKey);
  const address = { host: '127.0.0.1', port: inbox.port };
  const basic = { kind: 'basic', username: 'me', password };
  const oauth = {
    ...{ kind: 'oauth2-client-credentials', user: 'a@x.org', clientId: 'app', clientSecret },
    tokenEndpoint: issuer.tokenEndpoint,
  };
  const connections: Record<string, unknown> = {
    mail: { ...address, auth: basic },
    wrong: { ...address, auth: { ...basic, password: `${password}!` } },
    token: { ...address, auth: oauth },
    // None of these is one.
    broken: { ...address, auth: { ...basic, username: { password } }, password },
    scheme: `ftp://me:${encodeURIComponent(password)}@127.0.0.1`,
  };
  for (const [name, connection] of Object.entries(connections)) {
    const { body } = await admin.post('/v1/connections', { name, connection });
    if (body.id) await admin.post(`/v1/connections/${body.id}/verify`);
  }
  const settings = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x', retry: { attempts: 1 } };
  const states: string[] = [];
  for (const connection of ['@mail', '@wrong', '@token', ...Object.values(connections)]) {
    for (const async of [false, true]) {
      const all = { ...settings, subject: `Hi ${states.length}`, connection, async };
      await admin.post('/v1/previews', { settings: all });
      const { body } = await admin.post('/v1/nodes/send-email/runs', { settings: all });
      states.push(body.state ?? body.code);
      if (body.deliveryId === undefined) continue;
      const state = async () => (await admin.get(`/v1/deliveries/${body.deliveryId}`)).body.state;
      await expect.poll(state).toMatch(/sent|failed|queued/);
      await admin.get(`/v1/deliveries/${body.deliveryId}/message`);
    }
  }
  const made = await admin.post('/v1/api-keys', { name: 'second', scopes: ['send'] });
  const secondKey: string = made.body.key;
  await admin.as(secondKey).get('/v1/nodes');
  await admin.as('fp_nobody_nothing').get('/v1/nodes');
  for (const path of ['/v1/connections', '/v1/api-keys', '/v1/deliveries', '/metrics']) await admin.get(path);
  await server.end('SIGTERM');

  expect(inbox.messages.length).toBeGreaterThan(1);
  expect(issuer.requests.length).toBeGreaterThan(0);
  expect(secondKey.length).toBeGreaterThan(24);
  const texts = new Map<string, Buffer>([
    // The keys are shown where they are made, once.
    ['log', Buffer.from(server.log.join('').replace(firstKey, ''))],
    ['answers', Buffer.from(admin.answers.join('\n').replace(secondKey, ''))],
  ]);
  for (const file of await readdir(folder.path, { recursive: true, withFileTypes: true })) {
    const path = join(file.parentPath, file.name);
    if (file.isFile()) texts.set(path, await readFile(path));
  }
  expect(texts.size).toBeGreaterThan(100);
  expect(texts.get('log')?.length).toBeGreaterThan(1_000);
  const secrets = [password, clientSecret].flatMap((one) => [
    ...[one, encodeURIComponent(one), JSON.stringify(one).slice(1, -1)],
    Buffer.from(one).toString('base64').replace(/=+$/, ''),
    Buffer.from(one).toString('hex'),
  ]);
  secrets.push(Buffer.from(`\0me\0${password}`).toString('base64'));
  secrets.push(...[firstKey, secondKey].map((key) => key.slice(-24)));
  for (const [name, content] of texts) {
    for (const secret of secrets) expect(content.includes(secret), `${secret} in ${name}`).toBe(false);
  }
});
