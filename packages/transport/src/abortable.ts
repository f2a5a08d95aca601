import { cancellationOf, MailError } from '@flowpost/core';

/** What an aborted signal means as long as nothing has been sent. */
export function cancelledBefore(signal: AbortSignal): MailError {
  const { code, message, ...cause } = cancellationOf(signal);
  return new MailError(code, `Before anything was sent, ${message}.`, { phase: 'connect', ...cause });
}

/**
 * Waits for work that need not know the signal, until that is aborted.
 *
 * @param onAbort ends what can be ended, and gives what to reject with.
 */
export async function untilAborted<Value>(
  signal: AbortSignal | undefined,
  work: () => Value | PromiseLike<Value>,
  onAbort: (signal: AbortSignal) => unknown = cancelledBefore,
): Promise<Value> {
  if (!signal) return work();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  const abort = (): void => aborted.reject(onAbort(signal));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work(), aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
