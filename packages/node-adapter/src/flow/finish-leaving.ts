import { linkAbort, type MailSender } from '@flowpost/core';

/**
 * A sender whose `signal` cancels an attempt until its message may be leaving. From then on only `leavingSignal` does: cut short
 * there, it would be in doubt.
 */
export function finishLeaving(sender: MailSender, leavingSignal: AbortSignal | undefined): MailSender {
  return {
    async send(message, options = {}) {
      const { signal, beforeData } = options;
      const attempt = new AbortController();
      const unlink = linkAbort(signal, attempt);
      const unlinkLeaving = linkAbort(leavingSignal, attempt);
      try {
        return await sender.send(message, {
          ...options,
          signal: attempt.signal,
          async beforeData() {
            await beforeData?.();
            unlink();
          },
        });
      } finally {
        unlink();
        unlinkLeaving();
      }
    },
    [Symbol.asyncDispose]: () => sender[Symbol.asyncDispose](),
  };
}
