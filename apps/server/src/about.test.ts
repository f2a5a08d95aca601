import { MailError } from '@flowpost/core';
import { expect, it } from 'vitest';
import { about } from './about.ts';

const failed = (error: unknown) =>
  about('DATABASE_URL', () => Promise.reject(error)).catch((thrown) => thrown);
const system = (code: string) => Object.assign(new Error(`said ${code}`), { code });

it.each([
  ['a database that is away', system('ECONNREFUSED'), 'STORAGE_UNAVAILABLE', true],
  [
    'several addresses',
    Object.assign(new Error(''), { errors: [system('ECONNREFUSED')] }),
    'STORAGE_UNAVAILABLE',
    true,
  ],
  ['a password', system('28P01'), 'CONNECTION_INVALID', false],
  ['a database that is not there', system('3D000'), 'CONNECTION_INVALID', false],
  [
    'a right',
    new MailError('STORAGE_UNAVAILABLE', 'x', { cause: system('42501') }),
    'CONNECTION_INVALID',
    false,
  ],
])('%s: names the variable, and what was said', async (_, error, code, retryable) => {
  const thrown = await failed(error);
  expect(thrown).toMatchObject({ code, retryable, message: expect.stringContaining('DATABASE_URL') });
  expect(thrown.cause.message).toMatch(/^said /);
  expect(thrown.details.reason).toBe(thrown.cause.code);
});

it('keeps what somebody who knows better says', async () => {
  const newer = new MailError('STORAGE_UNAVAILABLE', 'Its version is newer.', {
    hint: 'Use that.',
    retryable: false,
  });
  expect(await failed(newer)).toMatchObject({
    ...{ code: 'STORAGE_UNAVAILABLE', message: 'DATABASE_URL: Its version is newer.', hint: 'Use that.' },
    retryable: false,
  });
});
