import { cancellationOf, MailError } from '@flowpost/core';

/** @throws MailError `SEND_CANCELLED` or `SEND_TIMED_OUT` when the signal is aborted; `during` says what was going on. */
export function assertNotGivenUp(signal: AbortSignal | undefined, during: string): void {
  if (!signal?.aborted) return;
  const { code, message, ...cause } = cancellationOf(signal);
  throw new MailError(code, `While ${during}, ${message}.`, { phase: 'attachments', ...cause });
}
