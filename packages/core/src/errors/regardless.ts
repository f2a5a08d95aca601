/** Calls what is somebody else's and decides nothing: that it fails, at once or later, is not heard of. */
export function regardless(call: () => unknown): void {
  try {
    const called = call();
    if (typeof called === 'object' && called !== null && 'then' in called)
      Promise.resolve(called).catch(() => undefined);
  } catch {
    // There is nowhere to report it.
  }
}
