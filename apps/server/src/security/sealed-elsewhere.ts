import { isMailError, MailError } from '@flowpost/core';

/** What another server sealed with a key that this one will be given. Nothing is wrong with it, and nothing is lost. */
export function sealedElsewhere(error: unknown): never {
  if (!isMailError(error) || error.code !== 'SECRET_KEY_MISSING') throw error;
  throw new MailError(
    'STORAGE_UNAVAILABLE',
    'What is needed was sealed with a key that this server does not have.',
    {
      retryable: true,
      hint: 'Nothing was sent. Start every server with all keys in FLOWPOST_KEYS.',
      details: { reason: error.code },
      cause: error,
    },
  );
}

export const isSealedElsewhere = (error: unknown): error is MailError =>
  isMailError(error) && error.code === 'STORAGE_UNAVAILABLE' && error.details.reason === 'SECRET_KEY_MISSING';
