import { say } from './output.ts';

/** What a shell says of a process that ended by SIGINT. */
const interrupted = 130;

/**
 * A signal for whatever is under way, that Ctrl-C and SIGTERM give: it ends as it should, and can say what became of it. Whoever
 * presses twice does not want to wait for that.
 */
export function untilInterrupted(): AbortSignal & Disposable {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(interrupted);
    say('Stopping. Press Ctrl-C again to end at once, without knowing what became of what is under way.');
    controller.abort();
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, stop);
  return Object.assign(controller.signal, {
    [Symbol.dispose]() {
      for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, stop);
    },
  });
}
