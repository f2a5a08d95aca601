import { type ConnectionInput, generateSecretKey, parseConnection, SecretBox } from '@flowpost/core';
import { expect, it } from 'vitest';
import { connectionFingerprint } from './fingerprint.ts';

const fingerprint = (connection: ConnectionInput) => connectionFingerprint(parseConnection(connection));
const base = { host: 'x.org', auth: { kind: 'basic', username: 'u', password: 'hunter2' } } as const;

it('is the same for the same connection, however it is written', () => {
  expect(fingerprint('smtp://u:hunter2@x.org')).toBe(fingerprint(base));
  expect(fingerprint({ auth: base.auth, host: 'x.org', kind: 'smtp' })).toBe(fingerprint(base));
});

it('changes with anything, the password included, and shows nothing of it', async () => {
  const { compact } = await new SecretBox([generateSecretKey()]).encrypt('hunter2');
  const others: ConnectionInput[] = [
    base,
    { ...base, auth: { ...base.auth, password: 'hunter3' } },
    { ...base, auth: { ...base.auth, password: compact } },
    { ...base, auth: { ...base.auth, username: 'v' } },
    { ...base, port: 465 },
    { ...base, allowPlaintextAuth: true },
    { host: 'x.org' },
  ];
  const fingerprints = others.map(fingerprint);
  expect(new Set(fingerprints).size).toBe(others.length);
  for (const one of fingerprints) expect(one).toMatch(/^[\w-]{43}$/);
});
