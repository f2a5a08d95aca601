import { linkAbort, untilAborted } from '@flowpost/core';

/** How long the database is waited for when the server is going down, in milliseconds: somebody waits for what is known by then. */
const toldMs = 600;

/**
 * Tells the database something, for as long as it takes; once there is no more time, not for long.
 *
 * @param cut that there is no more time.
 */
export async function tell<Value>(cut: AbortSignal, work: () => Promise<Value>): Promise<Value> {
  const late = new AbortController();
  const unlink = linkAbort(cut, late, toldMs);
  try {
    return await untilAborted(late.signal, work);
  } finally {
    unlink();
  }
}
