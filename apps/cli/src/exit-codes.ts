import type { ErrorCategory, MailErrorJson } from '@flowpost/core';

/** Exit codes in the manner of sysexits.h; scripts rely on them. */
export const exitCodes = {
  sent: 0,
  usage: 64,
  /** Bad message or settings. */
  input: 65,
  /** A missing or unusable attachment. */
  attachment: 66,
  /** Refused for good. */
  refused: 69,
  /** Some have it and some do not: no reason to send it again as it is. */
  partial: 69,
  /** TLS cannot be trusted, or not be had at all. */
  tls: 69,
  internal: 70,
  /** Try again later. */
  temporary: 75,
  network: 75,
  cancelled: 75,
  'in-doubt': 76,
  authentication: 77,
  configuration: 78,
} as const satisfies Record<ErrorCategory | 'sent' | 'partial' | 'usage', number>;

/** The exit code of a failure: a server that may have TLS later may be tried later. */
export const exitCodeOf = ({ category, retryable }: Pick<MailErrorJson, 'category' | 'retryable'>): number =>
  category === 'tls' && retryable ? exitCodes.temporary : exitCodes[category];
