let pending: Promise<void> | undefined;

/**
 * Resolves when what has come in on every connection has been read: in the check phase of this turn of the event loop. Whoever
 * waits in the same turn waits for the same promise.
 */
export function afterReading(): Promise<void> {
  pending ??= new Promise((resolve) => {
    setImmediate(() => {
      pending = undefined;
      resolve();
    });
  });
  return pending;
}
