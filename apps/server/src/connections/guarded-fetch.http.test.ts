import { HttpServer } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { guardedFetch } from './guarded-fetch.ts';

const proxied = { NODE_USE_ENV_PROXY: '1', HTTPS_PROXY: 'http://127.0.0.1:1' };

/** How asking a server on this machine ends: what is guarded refuses it, and what is not does not get through to it. */
async function outcome(host: string, environment: NodeJS.ProcessEnv): Promise<string> {
  await using server = await HttpServer.start((_, response) => response.end());
  const asked = guardedFetch({ allowedHosts: [] }, { trusts: () => false }, environment);
  return asked(`https://${host}:${server.port}/token`).then(
    () => 'answered',
    ({ cause }) => (cause?.code === 'ADDRESS_REFUSED' ? 'guarded' : 'not guarded'),
  );
}

it.each([
  ['127.0.0.1', {}],
  ['127.0.0.1', { HTTPS_PROXY: 'http://127.0.0.1:1' }],
  ['localhost', { ...proxied, NO_PROXY: 'localhost' }],
  ['localhost', { ...proxied, NO_PROXY: '*' }],
  ['localhost', { ...proxied, no_proxy: 'a.example, LOCALHOST' }],
  ['localhost', { ...proxied, NO_PROXY: '.localhost' }],
  ['localhost', { ...proxied, NO_PROXY: '*.localhost' }],
  ['127.0.0.1', { ...proxied, NO_PROXY: '127.0.0.1' }],
  ['127.0.0.1', { ...proxied, NO_PROXY: '127.0.0.0-127.0.0.9' }],
  ['127.0.0.1', { ...proxied, NO_PROXY: '127.0.0.0/8' }],
  ['127.0.0.1', { ...proxied, NO_PROXY: '.0.0.1' }],
])('%s is guarded with %j', async (host, environment) => {
  expect(await outcome(host, environment)).toBe('guarded');
});

it.each([
  ['127.0.0.1', proxied],
  ['localhost', { ...proxied, NO_PROXY: 'host' }],
  ['localhost', { ...proxied, NO_PROXY: '.example, 10.0.0.1' }],
])('%s is left to the proxy with %j', async (host, environment) => {
  expect(await outcome(host, environment)).toBe('not guarded');
});
