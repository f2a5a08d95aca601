const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;

/** How long to wait after each attempt; the last one counts for all after it. */
const delaysMs = [
  5 * second,
  20 * second,
  minute,
  5 * minute,
  15 * minute,
  30 * minute,
  hour,
  2 * hour,
  4 * hour,
];

export interface BackoffOptions {
  /** How long a delivery is tried at all, in milliseconds. */
  readonly forMs: number;
  readonly random?: () => number;
}

/**
 * When a delivery that may succeed later is tried again, in Unix milliseconds; undefined when it has been tried for long enough.
 * Waits grow to hours (RFC 5321 section 4.5.4.1), differ a little each time, and are never shorter than a server asked for.
 */
export function nextAttemptAt(
  {
    attempt,
    triedSince,
    retryAfterMs = 0,
    now,
  }: {
    readonly attempt: number;
    readonly triedSince: number;
    readonly retryAfterMs?: number | undefined;
    readonly now: number;
  },
  { forMs, random = Math.random }: BackoffOptions,
): number | undefined {
  const delayMs = delaysMs[Math.min(attempt, delaysMs.length) - 1] ?? second;
  const at = now + Math.max(retryAfterMs, delayMs * (0.8 + random() * 0.4));
  return at - triedSince > forMs ? undefined : at;
}
