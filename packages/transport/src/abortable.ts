import { cancellationOf, MailError } from '@flowpost/core';

/**
 * Waits for something that knows no signal, until the signal is aborted.
 *
 * @throws MailError `SEND_CANCELLED` or `SEND_TIMED_OUT`, with nothing sent as far as this goes.
 */
export async function abortable<Value>(
  signal: AbortSignal | undefined,
  work: Value | PromiseLike<Value>,
): Promise<Value> {
  if (!signal) return work;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => {
    const { code, message, ...cause } = cancellationOf(signal);
    const retryable = code === 'SEND_TIMED_OUT';
    aborted.reject(
      new MailError(code, `Before anything was sent, ${message}.`, { phase: 'connect', retryable, ...cause }),
    );
  };
  aborted.promise.catch(() => undefined);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
