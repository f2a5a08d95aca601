/**
 * Ends one thing with another, such as an attempt with the signal of the whole. Costs less than a signal made of several
 * (`AbortSignal.any`), where it is done for each message.
 *
 * @returns undoes that.
 */
export function linkAbort(from: AbortSignal | undefined, to: AbortController): () => void {
  if (!from) return () => undefined;
  const end = (): void => to.abort(from.reason);
  if (from.aborted) end();
  from.addEventListener('abort', end, { once: true });
  return () => from.removeEventListener('abort', end);
}

/**
 * What an aborted signal means: the caller's wish, or the end of the time allowed, which `AbortSignal.timeout` marks
 * with a TimeoutError.
 */
export function cancellationOf(signal: AbortSignal | undefined): {
  readonly code: 'SEND_CANCELLED' | 'SEND_TIMED_OUT';
  readonly message: string;
  readonly cause?: Error;
} {
  const reason = signal?.reason;
  const cause = reason instanceof Error && { cause: reason };
  return reason instanceof Error && reason.name === 'TimeoutError'
    ? { code: 'SEND_TIMED_OUT', message: 'the time allowed for the send ran out', ...cause }
    : { code: 'SEND_CANCELLED', message: 'the send was cancelled', ...cause };
}
