/** Kept from the beginning: what a test puts in its place would hold every send back. */
const atCheck = setImmediate;

/** Resolves when what has come in on every connection has been read: in the check phase of this turn of the event loop. */
export const afterReading = (): Promise<void> =>
  new Promise((resolve) => {
    atCheck(resolve);
  });
