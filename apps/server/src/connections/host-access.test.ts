import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionInput, parseConnection } from '@flowpost/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HostAccess } from './host-access.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  for (const one of ['files', 'files-of-others']) await mkdir(join(folder, one));
  await symlink('/etc', join(folder, 'files', 'link'));
});
afterAll(() => rm(folder, { recursive: true }));

const refuses = (work: () => void): boolean => {
  try {
    work();
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONNECTION_INVALID' });
    return true;
  }
};
const ids = { user: 'me@x.org', clientId: 'app' };

describe('files of a connection', () => {
  it.each([
    [false, 'files/ca.pem'],
    [true, 'files-of-others/ca.pem'],
    [true, 'files/../ca.pem'],
    [true, 'files/link/passwd'],
    [true, 'files'],
  ])('refused %s: %s', (expected, path) => {
    const access = new HostAccess({ filesFolder: join(folder, 'files') });
    const file = join(folder, 'x').slice(0, -1) + path;
    const auth = {
      kind: 'oauth2-certificate',
      ...ids,
      tenantId: 't',
      assertion: 'entra',
      certificateFile: file,
    };
    for (const more of [
      { tlsOptions: { caFile: file } },
      { dkim: [{ domain: 'x.org', selector: 's', privateKeyFile: file }] },
      { auth },
    ]) {
      const connection = parseConnection({ host: 'smtp.x.org', ...more } as ConnectionInput);
      expect(refuses(() => access.assertFiles(connection))).toBe(expected);
    }
  });

  it.each([['ca.pem'], ['./files/ca.pem']])(
    'a path from wherever the process was started is refused: %s',
    (caFile) => {
      const access = new HostAccess({ filesFolder: process.cwd() });
      const connection = parseConnection({ host: 'smtp.x.org', tlsOptions: { caFile } } as ConnectionInput);
      expect(refuses(() => access.assertFiles(connection))).toBe(true);
    },
  );
});

describe('servers that this one asks for others', () => {
  it.each([
    ['https://login.example.com/token', false],
    ['http://login.example.com/token', true],
    ['https://intranet/token', true],
    ['https://vault.internal/token', true],
    ['https://127.0.0.1/token', true],
    ['https://[fd00::1]/token', true],
  ])('%s is refused: %s', (url, expected) => {
    const access = new HostAccess({ filesFolder: folder });
    const secret = { kind: 'oauth2-client-credentials', ...ids, clientSecret: 's' };
    const ofToken = { host: 'smtp.x.org', auth: { ...secret, tokenEndpoint: url } };
    const graph = {
      kind: 'microsoft365',
      delivery: 'graph',
      tenantId: 't',
      objectId: 'o',
      graphBaseUrl: url,
      auth: secret,
    };
    for (const given of [ofToken, graph])
      expect(refuses(() => access.assertInline(parseConnection(given as ConnectionInput)))).toBe(expected);
  });
});
