import {
  type CredentialInput,
  credentialSchema,
  generateSecretKey,
  parseWith,
  SecretBox,
} from '@flowpost/core';
import { describe, expect, it } from 'vitest';
import { createAuthProvider } from './create-auth-provider.ts';

const provide = (credential: CredentialInput, secretBox?: SecretBox) =>
  createAuthProvider(parseWith(credentialSchema, credential), { secretBox });

describe('basic', () => {
  it('gives user name and password', async () => {
    const login = await provide({ kind: 'basic', username: 'me', password: 'hunter2' }).login();
    expect(login.username).toBe('me');
    expect(login.kind === 'password' && login.password.reveal()).toBe('hunter2');
    expect(JSON.stringify(login)).not.toContain('hunter2');
  });

  it('opens encrypted text', async () => {
    const box = new SecretBox([generateSecretKey()]);
    const [username, password] = await Promise.all(['me', 'hunter2'].map((text) => box.encrypt(text)));
    const credential = {
      kind: 'basic',
      username: username?.compact ?? '',
      password: password?.compact ?? '',
    } as const;
    const login = await provide(credential, box).login();
    expect([login.username, login.kind === 'password' && login.password.reveal()]).toEqual(['me', 'hunter2']);
    await expect(provide(credential).login()).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
  });
});
