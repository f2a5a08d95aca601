import { say } from './output.ts';
import { settledStores } from './read-input.ts';

/** What a shell says of a process that ended by SIGINT. */
const interrupted = 130;

/** How long what is still under way has to end after its outcome is known, in milliseconds. */
const graceMs = 1_000;

/**
 * A signal for whatever is under way, that Ctrl-C and SIGTERM give: it ends as it should, and can say what became of it. Whoever
 * presses twice does not want to wait for that.
 */
export function untilInterrupted(): AbortSignal & Disposable {
  const controller = new AbortController();
  /** The outcome is known, and what is not waited for may still be under way. */
  let isOver = false;
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(interrupted);
    if (isOver)
      say(
        'Waiting for a new token, which may be the only one that works from now on. Press Ctrl-C again to end without it.',
      );
    else
      say('Stopping. Press Ctrl-C again to end at once, without knowing what became of what is under way.');
    controller.abort();
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, stop);
  return Object.assign(controller.signal, {
    [Symbol.dispose]() {
      isOver = true;
      // What was told to end and does not is not waited for: nothing ends the system's looking up of a name, which may take it ten
      // seconds. But for a token that is kept: the issuer may have made the one before it useless.
      void settledStores().then(() => {
        if (controller.signal.aborted) setTimeout(() => process.exit(), graceMs).unref();
        for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, stop);
      });
    },
  });
}
