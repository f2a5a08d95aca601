import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { credentialSchema, formatSecretKey, generateSecretKey, SecretBox, SecretText } from '@flowpost/core';
import { OAuthServer } from '@flowpost/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAuthProvider } from './create-auth-provider.ts';
import { FileTokenStore } from './file-token-store.ts';

const key = generateSecretKey();
const box = new SecretBox([key]);
let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'flowpost-tokens-')), 'tokens');
});
afterEach(() => rm(join(folder, '..'), { recursive: true }));

const tokens = {
  accessToken: new SecretText('access-1'),
  refreshToken: new SecretText('refresh-1'),
  expiresAt: 5,
  obtainedAt: 1,
};

/** Runs a program that uses this package, in a process of its own. */
function runProgram(source: string): ChildProcess {
  const program = `
    import { FileTokenStore, createAuthProvider } from '${new URL('./index.ts', import.meta.url)}';
    import { SecretBox, SecretText, credentialSchema } from '${import.meta.resolve('@flowpost/core')}';
    const store = new FileTokenStore(process.env.FOLDER, SecretBox.fromText(process.env.KEY));
    ${source}`;
  return spawn(
    process.execPath,
    ['--conditions=@flowpost/source', '--input-type=module', '--eval', program],
    {
      env: { ...process.env, FOLDER: folder, KEY: formatSecretKey(key) },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
}

it('keeps tokens, encrypted, for this account only', async () => {
  const store = new FileTokenStore(folder, box);
  expect(await store.get('k')).toBeUndefined();
  await store.set('k', tokens);
  const found = await new FileTokenStore(folder, box).get('k');
  expect([found?.accessToken?.reveal(), found?.refreshToken?.reveal(), found?.expiresAt]).toEqual([
    'access-1',
    'refresh-1',
    5,
  ]);
  const [name = ''] = await readdir(folder);
  expect(await readFile(join(folder, name), 'utf8')).not.toMatch(/access|refresh/);
  expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
});

it('says when a file cannot be opened, and never takes it for missing', async () => {
  const store = new FileTokenStore(folder, box);
  await store.set('k', tokens);
  const other = new FileTokenStore(folder, new SecretBox([generateSecretKey()]));
  await expect(other.get('k')).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
  await writeFile(join(folder, 'k.jwe'), 'damaged');
  await expect(store.get('k')).rejects.toMatchObject({ code: 'ENCRYPTED_TEXT_INVALID' });
  await expect(store.get('../k')).rejects.toThrow();
});

it('a folder that cannot be used is an error that says so', async () => {
  await writeFile(join(folder, '..', 'file'), 'x');
  const store = new FileTokenStore(join(folder, '..', 'file'), box);
  await expect(store.set('k', tokens)).rejects.toMatchObject({ code: 'TOKEN_STORE_FAILED', phase: 'token' });
  await expect(store.get('k')).rejects.toMatchObject({ code: 'TOKEN_STORE_FAILED' });
});

it('writes at once by many leave one whole file', async () => {
  const store = new FileTokenStore(folder, box);
  const texts = Array.from({ length: 20 }, (_, index) => `access-${index}`);
  await Promise.all(texts.map((text) => store.set('k', { accessToken: new SecretText(text) })));
  expect(texts).toContain((await store.get('k'))?.accessToken?.reveal());
  expect(await readdir(folder)).toEqual(['k.jwe']);
});

describe('a process that is killed', () => {
  it('in the middle of writing leaves old tokens or new ones, never half', async () => {
    const store = new FileTokenStore(folder, box);
    await store.set('k', { accessToken: new SecretText('0') });
    for (let round = 0; round < 5; round++) {
      const child = runProgram(`
        console.log('ready');
        for (let n = 1; ; n++) await store.set('k', { accessToken: new SecretText(String(n).padEnd(50_000, '.')) });`);
      await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line');
      await new Promise((resolve) => setTimeout(resolve, 10 + round * 7));
      child.kill('SIGKILL');
      await once(child, 'close');
      expect((await store.get('k'))?.accessToken?.reveal()).toMatch(/^\d+\.*$/);
    }
  });

  it('right after a refresh token was rotated leaves the new one, which still works', async () => {
    await using server = await OAuthServer.start({ secrets: { app: 'secret' } });
    const credential = {
      kind: 'oauth2-refresh',
      user: 'me',
      clientId: 'app',
      clientSecret: 'secret',
      tokenEndpoint: server.tokenEndpoint,
      refreshToken: await server.issueRefreshToken('app', 'me'),
    };
    // Each process refreshes once and is killed as soon as it has the token.
    for (let round = 1; round <= 3; round++) {
      const child = runProgram(`
        const provider = createAuthProvider(credentialSchema.parse(${JSON.stringify(credential)}), { tokenStore: store });
        const login = await provider.login();
        if (${round} > 1) { await provider.invalidate(login); await provider.login(); }
        process.kill(process.pid, 'SIGKILL');`);
      expect(await once(child, 'close')).toEqual([null, 'SIGKILL']);
      expect(server.requests).toHaveLength(round);
    }
    expect(server.refusals).toEqual([]);
  });
});

it('processes that share a folder use a refresh token once, and all go on with what came of it', async () => {
  await using server = await OAuthServer.start({ secrets: { app: 'secret' } });
  const credential = {
    ...{ kind: 'oauth2-refresh', user: 'me', clientId: 'app', clientSecret: 'secret' },
    tokenEndpoint: server.tokenEndpoint,
    refreshToken: await server.issueRefreshToken('app', 'me'),
  };
  const children = [1, 2, 3].map(() =>
    runProgram(`
      const provider = createAuthProvider(credentialSchema.parse(${JSON.stringify(credential)}), { tokenStore: store });
      const login = await provider.login();
      console.log(login.token.reveal());`),
  );
  const printed = await Promise.all(children.map((child) => text(child.stdout as NodeJS.ReadableStream)));
  expect(new Set(printed).size).toBe(1);
  expect([server.requests.length, server.refusals]).toEqual([1, []]);
  expect(await readdir(folder)).toHaveLength(1);
  // The token family lives.
  const provider = createAuthProvider(credentialSchema.parse(credential), {
    tokenStore: new FileTokenStore(folder, box),
  });
  await provider.invalidate(await provider.login());
  expect((await provider.login()).kind).toBe('bearer');
});
