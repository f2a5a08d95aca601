import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lookup } from '@flowpost/core';
import { HttpServer } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { createGuardedFetch } from './guarded-agent.ts';

const lookup: Lookup = async (host) => [
  { address: host === 'two.example' ? '::ffff:127.0.0.1' : '127.0.0.1', family: 4 },
];

it('connects to public addresses, and to private ones that are allowed or trusted', async () => {
  await using server = await HttpServer.start((_request, response) => response.end('hello'));
  const { port } = new URL(server.url('/'));
  const get = (host: string, options: Parameters<typeof createGuardedFetch>[0] = {}) =>
    createGuardedFetch({ lookup, ...options })(`http://${host}:${port}/`, {
      method: 'POST',
      body: 'a=b',
    }).then(
      (response) => response.text(),
      ({ cause }) => cause.code,
    );
  expect(await get('one.example')).toBe('ADDRESS_REFUSED');
  expect(await get('127.0.0.1')).toBe('ADDRESS_REFUSED');
  expect(await get('[::ffff:7f00:1]')).toBe('ADDRESS_REFUSED');
  expect(server.requests).toEqual([]);
  expect(await get('one.example', { allowedHosts: ['127.0.0.0/8'] })).toBe('hello');
  expect(await get('one.example', { allowedHosts: ['one.example'] })).toBe('hello');
  expect(await get('one.example', { allowedHosts: ['other.example'] })).toBe('ADDRESS_REFUSED');
  const trusting = (host: string, its: number) => ({
    trusts: (one: string, at: number) => one === host && at === its,
  });
  expect(await get('one.example', trusting('one.example', Number(port)))).toBe('hello');
  expect(await get('127.0.0.1', trusting('127.0.0.1', Number(port)))).toBe('hello');
  expect(await get('one.example', trusting('one.example', 443))).toBe('ADDRESS_REFUSED');
  await using elsewhere = await HttpServer.start((_request, response) =>
    response.writeHead(302, { location: server.url('/') }).end(),
  );
  const redirecting = Number(new URL(elsewhere.url('/')).port);
  const follow = createGuardedFetch({ lookup, ...trusting('one.example', redirecting) });
  await expect(follow(`http://one.example:${redirecting}/`)).rejects.toMatchObject({
    cause: { code: 'ADDRESS_REFUSED' },
  });
  expect(() => createGuardedFetch({ allowedHosts: ['10.0.0.0/99'] })).toThrowError(
    expect.objectContaining({ code: 'INPUT_INVALID' }),
  );
});

it('an address that takes a second to answer is waited for, though there is another', async () => {
  // Its backlog is full at first, so connecting is asked for again after a second (RFC 6298 section 2.1).
  const script = `require('node:http').createServer((_, response) => response.end('hello')).listen(
    { host: '127.0.0.2', port: 0, backlog: 1 },
    function () {
      process.stdout.write(String(this.address().port), () =>
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 900));
    })`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = Number(`${(await once(child.stdout, 'data'))[0]}`);
  const filling = Array.from({ length: 4 }, () => connect({ host: '127.0.0.2', port }));
  for (const socket of filling) socket.on('error', () => undefined);
  const several: Lookup = async () => ['127.0.0.2', '127.0.0.3'].map((address) => ({ address, family: 4 }));
  await delay(100);
  const guarded = createGuardedFetch({ lookup: several, allowedHosts: ['127.0.0.0/8'] });
  const answer = await guarded(`http://two.example:${port}/`).then((response) => response.text());
  for (const socket of filling) socket.destroy();
  child.kill();
  expect(answer).toBe('hello');
});

it.each([
  ['a Request', [new Request('http://127.0.0.1:1')]],
  ['FormData', ['http://127.0.0.1:1', { method: 'POST', body: new FormData() }]],
] as const)('%s, of which it would send something else, is refused', async (_, [input, init]) => {
  await expect(createGuardedFetch()(input, init)).rejects.toBeInstanceOf(TypeError);
});
