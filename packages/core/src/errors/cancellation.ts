import { setMaxListeners } from 'node:events';
import { isError } from './is-error.ts';
import { isMailError } from './mail-error.ts';

/**
 * Why one thing ends with another. An error of ours is about that other thing, and would be taken for what became of this one.
 */
const reasonFor = (reason: unknown): unknown =>
  isMailError(reason) ? new Error(`ended by ${reason.code}`) : reason;

/** What a signal of several is made of: kept as long as that is, and never read. */
const partsOf = new WeakMap<AbortSignal, readonly AbortSignal[]>();

/**
 * Ends with the first of several signals, as `AbortSignal.any` does. That alone does not keep them in every Node.js we run on (tried: 22.12,
 * 24.6): a time limit that nobody else has is collected, and never comes.
 *
 * @see https://github.com/nodejs/node/issues/54614
 */
export function anySignal(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  const parts = signals.filter((one) => one !== undefined);
  const [only] = parts;
  if (only && parts.length === 1) return only;
  const signal = AbortSignal.any(parts);
  partsOf.set(signal, parts);
  return signal;
}

/**
 * Ends one thing with another, such as an attempt with the signal of the whole. Costs less than a signal made of several
 * (`AbortSignal.any`), where it is done for each message.
 *
 * @param afterMs how much later it ends, in milliseconds; as a function, worked out then. Default at once.
 * @returns undoes that.
 */
export function linkAbort(
  from: AbortSignal | undefined,
  to: AbortController,
  afterMs: number | (() => number) = 0,
): () => void {
  if (!from) return () => undefined;
  let timer: NodeJS.Timeout | undefined;
  const abort = (): void => to.abort(reasonFor(from.reason));
  const end = (): void => {
    const ms = typeof afterMs === 'number' ? afterMs : afterMs();
    if (ms <= 0) abort();
    else timer = setTimeout(abort, ms).unref();
  };
  if (from.aborted) end();
  // Many sends may end with one signal, and Node.js 22.12 takes eleven for a leak. Signals of others than Node do not.
  if (from instanceof EventTarget) setMaxListeners(0, from);
  from.addEventListener('abort', end, { once: true });
  return () => {
    clearTimeout(timer);
    from.removeEventListener('abort', end);
  };
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
  const cause = isError(reason) && { cause: reason };
  return isError(reason) && reason.name === 'TimeoutError'
    ? { code: 'SEND_TIMED_OUT', message: 'the time allowed for the send ran out', ...cause }
    : { code: 'SEND_CANCELLED', message: 'the send was cancelled', ...cause };
}

/**
 * Waits for work that need not know the signal, until that is aborted.
 *
 * @param onAbort ends what can be ended, and gives what to reject with; without it that is the signal's reason.
 * @param hearsFirst whether what has come in already is heard before that: a process that was stopped finds its time over first.
 */
export async function untilAborted<Value>(
  signal: AbortSignal | undefined,
  work: () => Value | PromiseLike<Value>,
  onAbort: (signal: AbortSignal) => unknown = ({ reason }) => reason,
  hearsFirst: () => boolean = () => false,
): Promise<Value> {
  if (!signal) return work();
  // By hand: Promise.race costs several promises more, and this runs several times for each message.
  return new Promise((resolve, reject) => {
    let isSettled = false;
    const end = (): void => {
      if (!isSettled) reject(onAbort(signal));
    };
    const abort = (): unknown => (hearsFirst() ? setImmediate(end) : end());
    const settle = (): void => {
      isSettled = true;
      signal.removeEventListener('abort', abort);
    };
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) end();
    const done = (value: Value): void => {
      settle();
      resolve(value);
    };
    const fail = (error: unknown): void => {
      settle();
      reject(error);
    };
    try {
      const working = work();
      if (working instanceof Promise) working.then(done, fail);
      else Promise.resolve(working).then(done, fail);
    } catch (error) {
      fail(error);
    }
  });
}
