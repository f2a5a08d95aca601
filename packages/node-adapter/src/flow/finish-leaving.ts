import { linkAbort, type MailSender } from '@flowpost/core';
import { beyondLimit } from '@flowpost/transport';

/** What is left of a delivery when somebody cancels is not waited for longer than this, in milliseconds. */
const graceMs = 5_000;

/**
 * A sender whose `signal` cancels an attempt until its message may be leaving. From then on only `leavingSignal` does: cut short
 * there, it would be in doubt. For one delivery: a message for those for whom there was no room in the one
 * before leaves with it, unless that takes a while.
 */
export function finishLeaving(sender: MailSender, leavingSignal: AbortSignal | undefined): MailSender {
  let hasRest = false;
  let endsAt: number | undefined;
  /** For all messages that are left together, once somebody has cancelled. */
  const timeLeft = (): number => {
    endsAt ??= performance.now() + graceMs;
    return endsAt - performance.now();
  };
  return {
    async send(message, options = {}) {
      const { signal, beforeData } = options;
      const attempt = new AbortController();
      const unlink = linkAbort(signal, attempt, hasRest ? timeLeft : 0);
      hasRest = false;
      const unlinkLeaving = linkAbort(leavingSignal, attempt);
      try {
        const receipt = await sender.send(message, {
          ...options,
          signal: attempt.signal,
          async beforeData() {
            await beforeData?.();
            unlink();
          },
        });
        hasRest = beyondLimit(receipt, 0).length > 0;
        return receipt;
      } finally {
        unlink();
        unlinkLeaving();
      }
    },
    [Symbol.asyncDispose]: () => sender[Symbol.asyncDispose](),
  };
}
