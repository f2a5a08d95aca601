import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { credentialSchema } from './credential.ts';
import { EncryptedText, formatSecretKey, generateSecretKey, SecretBox } from './encrypted-text.ts';
import { parseWith } from './errors/schema-error.ts';
import { revealSecret, SecretText } from './secret.ts';

const old = generateSecretKey('2025');
const current = generateSecretKey('2026');

describe('SecretBox', () => {
  it('opens text encrypted with any configured key (property)', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'grapheme', maxLength: 200 }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat(3),
        async (text, count, pick) => {
          const keys = Array.from({ length: count }, (_, index) => generateSecretKey(`k${index}`));
          const writer = keys[pick % count];
          if (!writer) throw new Error('unreachable');
          const encrypted = await new SecretBox([writer]).encrypt(text);
          expect(encrypted.keyId).toBe(writer.id);
          expect(await new SecretBox(keys).decrypt(encrypted.compact)).toBe(text);
        },
      ),
    );
  });

  it('fails closed when any one character changes (property)', async () => {
    const box = new SecretBox([current]);
    const { compact } = await box.encrypt('hunter2 with ünicode');
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=';
    await fc.assert(
      fc.asyncProperty(fc.nat(compact.length - 1), fc.constantFrom(...alphabet), async (at, char) => {
        fc.pre(compact[at] !== char);
        const changed = compact.slice(0, at) + char + compact.slice(at + 1);
        await expect(box.decrypt(changed)).rejects.toMatchObject({
          code: expect.stringMatching(/^(ENCRYPTED_TEXT_INVALID|SECRET_KEY_MISSING)$/),
        });
      }),
    );
  });

  it('what is encrypted for a purpose is opened for it alone, and what was encrypted before can be rotated into it', async () => {
    const box = new SecretBox([generateSecretKey('new'), generateSecretKey('old')]);
    const [own, same, other] = [
      await box.derive('server'),
      await box.derive('server'),
      await box.derive('x'),
    ];
    const sealed = await own.encrypt('hunter2');
    expect(sealed.keyId).toBe('new~server');
    expect(await same.decrypt(sealed)).toBe('hunter2');
    for (const wrong of [box, other])
      await expect(wrong.decrypt(sealed)).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
    const before = await box.encrypt('hunter2');
    const after = await own.rotate(before);
    expect(after.keyId).toBe('new~server');
    expect(await own.decrypt(after)).toBe('hunter2');
  });

  it('rotates: the new key encrypts, the old one still opens, nothing is encrypted twice', async () => {
    const before = await new SecretBox([old]).encrypt('secret');
    const box = new SecretBox([current, old]);
    expect(await box.decrypt(before)).toBe('secret');
    const after = await box.rotate(before);
    expect(after.keyId).toBe('2026');
    expect(await new SecretBox([current]).decrypt(after)).toBe('secret');
    expect(await box.rotate(after)).toBe(after);
  });

  it('says which key is missing', async () => {
    const encrypted = await new SecretBox([old]).encrypt('secret');
    await expect(new SecretBox([current]).decrypt(encrypted)).rejects.toMatchObject({
      code: 'SECRET_KEY_MISSING',
      category: 'configuration',
      details: { keyId: '2025' },
    });
  });

  it('reads keys from text', async () => {
    const text = `${formatSecretKey(current)},\n${formatSecretKey(old)}`;
    const encrypted = await new SecretBox([old]).encrypt('x');
    expect(await SecretBox.fromText(text).decrypt(encrypted)).toBe('x');
  });

  it.each([
    '',
    'id',
    'id:short',
    `id:${'A'.repeat(43)}=#junk`,
    `:${'A'.repeat(43)}`,
    `a:${'A'.repeat(43)},a:${'B'.repeat(43)}`,
  ])('refuses the keys %j', (text) => {
    expect(() => SecretBox.fromText(text)).toThrowError(
      expect.objectContaining({ code: 'SECRET_KEY_INVALID' }),
    );
  });
});

describe('EncryptedText', () => {
  it.each(['', 'plain', 'a.b.c.d.e', 'eyJhbGciOiJkaXIifQ....', 'eyJhbGciOiJub25lIn0.e30.'])(
    '%j is none',
    (text) => {
      expect(EncryptedText.isEncrypted(text)).toBe(false);
      expect(() => new EncryptedText(text)).toThrowError(
        expect.objectContaining({ code: 'ENCRYPTED_TEXT_INVALID' }),
      );
    },
  );
});

describe('secrets of another copy of this package', () => {
  // A path that only this test knows makes modules, and so classes, of their own.
  const load = async <Module>(path: string): Promise<Module> => import(/* @vite-ignore */ `${path}?another`);

  it('are what they are', async () => {
    const other = await load<typeof import('./secret.ts')>('./secret.ts');
    const encryption = await load<typeof import('./encrypted-text.ts')>('./encrypted-text.ts');
    expect(other.SecretText).not.toBe(SecretText);
    const box = new SecretBox([current]);
    const encrypted = new encryption.EncryptedText((await box.encrypt('hunter2')).compact);
    expect(encrypted).toBeInstanceOf(EncryptedText);
    expect(encrypted).not.toBeInstanceOf(SecretText);
    expect(await revealSecret(encrypted, box)).toBe('hunter2');
    await expect(revealSecret(encrypted)).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
    expect(await revealSecret(new other.SecretText('hunter2'))).toBe('hunter2');
    const text = { kind: 'basic', username: 'me', password: new other.SecretText('hunter2') } as const;
    expect(parseWith(credentialSchema, text)).toMatchObject({ password: text.password });
  });

  it('nothing else reveals anything', async () => {
    const odd = { reveal: () => 'eyJ', compact: 'eyJ' } as unknown as SecretText;
    await expect(revealSecret(odd)).rejects.toMatchObject({ code: 'CONNECTION_INVALID' });
  });
});

describe('secrets print as ***', () => {
  const clear = 'hunter2';
  it.each([
    ['SecretText', async () => new SecretText(clear)],
    ['EncryptedText', async () => new SecretBox([current]).encrypt(clear)],
  ])('%s', async (_, make) => {
    const secret = await make();
    const encrypted = secret instanceof EncryptedText ? secret.compact : clear;
    const printed = [
      String(secret),
      `${secret}`,
      `a${secret as unknown as string}`,
      JSON.stringify({ secret }),
      inspect(secret),
      inspect({ nested: { secret } }, { showHidden: true, depth: 9 }),
    ];
    for (const text of printed) {
      expect(text).toContain('***');
      expect(text).not.toContain(clear);
      expect(text).not.toContain(encrypted);
    }
    expect(await revealSecret(secret, new SecretBox([current]))).toBe(clear);
  });

  it('and so does the box', () => {
    const key = Buffer.from(current.key).toString('base64url');
    expect(inspect(new SecretBox([current]), { showHidden: true })).not.toContain(key);
    expect(JSON.stringify(new SecretBox([current]))).toBe('"***"');
  });

  it('encrypted text without a box is a configuration error', async () => {
    const encrypted = await new SecretBox([current]).encrypt('x');
    await expect(revealSecret(encrypted)).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
  });
});
