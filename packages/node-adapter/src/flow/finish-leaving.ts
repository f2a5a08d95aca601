import type { MailSender } from '@flowpost/core';

/**
 * A sender whose `signal` cancels an attempt until its message may be leaving. From then on only `leavingSignal` does: cut short
 * there, it would be in doubt.
 */
export function finishLeaving(sender: MailSender, leavingSignal: AbortSignal | undefined): MailSender {
  return {
    async send(message, options = {}) {
      const { signal, beforeData } = options;
      const attempt = new AbortController();
      const give = (): void => attempt.abort(signal?.reason);
      const cut = (): void => attempt.abort(leavingSignal?.reason);
      if (signal?.aborted) give();
      signal?.addEventListener('abort', give);
      leavingSignal?.addEventListener('abort', cut);
      try {
        return await sender.send(message, {
          ...options,
          signal: attempt.signal,
          async beforeData() {
            await beforeData?.();
            signal?.removeEventListener('abort', give);
          },
        });
      } finally {
        signal?.removeEventListener('abort', give);
        leavingSignal?.removeEventListener('abort', cut);
      }
    },
    [Symbol.asyncDispose]: () => sender[Symbol.asyncDispose](),
  };
}
