import {
  anySignal,
  cancellationOf,
  isMailError,
  linkAbort,
  longestTimerMs,
  MailError,
  type SendOptions,
} from '@flowpost/core';

/** What an aborted signal means as long as nothing has been sent. */
export function cancelledBefore(signal: AbortSignal): MailError {
  const { code, message, ...cause } = cancellationOf(signal);
  return new MailError(code, `Before anything was sent, ${message}.`, { phase: 'connect', ...cause });
}

/** Whether a failure is nothing but that the caller has given up. */
export const isGivenUp = (failure: unknown, signal: AbortSignal): boolean =>
  signal.aborted && !isMailError(failure);

/**
 * The end of the time allowed, in milliseconds from now; a time that is over has ended.
 *
 * @throws MailError `INPUT_INVALID` for what is no number.
 */
export function timeLimit(timeoutMs: number | undefined): AbortSignal | undefined {
  if (timeoutMs === undefined) return undefined;
  if (typeof timeoutMs !== 'number' || Number.isNaN(timeoutMs)) {
    const issues = [{ path: 'timeoutMs', message: 'a number of milliseconds' }];
    throw new MailError('INPUT_INVALID', 'timeoutMs is not a number.', { details: { issues } });
  }
  return AbortSignal.timeout(Math.min(Math.max(0, Math.ceil(timeoutMs)), longestTimerMs));
}

/** The same options with one signal for the caller's wish and the time allowed, for several things that share that time. */
export function withinTime(options: SendOptions): SendOptions {
  const late = timeLimit(options.timeoutMs);
  if (!late) return options;
  return {
    ...options,
    timeoutMs: undefined,
    signal: anySignal(options.signal, late),
  };
}

/** Ends so many milliseconds after a signal does: for what should still be found out then. */
export function somewhatAfter(signal: AbortSignal | undefined, graceMs: number): AbortSignal {
  const ending = new AbortController();
  linkAbort(signal, ending, graceMs);
  return ending.signal;
}
