import { type AuthProvider, type AuthProviderOptions, createAuthProvider } from '@flowpost/auth-providers';
import {
  type Clock,
  type Credential,
  copyMailError,
  isMailError,
  type Logger,
  type Login,
  type Lookup,
  type SendTimings,
} from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import type { ComposerOptions } from './message-composer.ts';

/** What a sender works with: keys, tokens, time, names of hosts, and how long it may take to close. */
export interface SenderOptions extends ComposerOptions {
  /** Where tokens are kept, and how token endpoints are reached. */
  readonly auth?: Omit<AuthProviderOptions, 'secretBox' | 'logger'> | undefined;
  /** Default silent. */
  readonly logger?: Logger | undefined;
  /** How host names are looked up. Default the system's way. */
  readonly lookup?: Lookup | undefined;
  readonly clock?: Clock | undefined;
  /**
   * How long closing waits for what is in flight before it cuts it, in milliseconds; a function says so when it closes. Default
   * 30,000.
   */
  readonly closeDeadlineMs?: number | (() => number) | undefined;
}

/** Who logs a sender in: with the clock, the keys and the log that it has itself. */
export const loginProvider = (
  credential: Credential,
  { auth, secretBox, logger, clock }: SenderOptions,
): AuthProvider => createAuthProvider(credential, { clock, ...auth, secretBox, logger });

/** Who logs in, for people. Some services want their token as both, user and password. */
export const shownUser = (login: Login): string =>
  login.kind === 'password' && login.password.reveal() === login.username ? '***' : login.username;

/** Finer than this, a time is noise. */
const toMicroseconds = (ms: number): number => Math.round(ms * 1_000) / 1_000;

/** Moments of one send, on the clock of `performance.now()`. */
export interface SendMoments {
  readonly start: number;
  readonly composed: number;
  /** When there was a session for it. */
  readonly begun: number;
}

export const timingsUntil = (now: number, { start, composed, begun }: SendMoments): SendTimings => ({
  composeMs: toMicroseconds(composed - start),
  sessionMs: toMicroseconds(begun - composed),
  deliverMs: toMicroseconds(now - begun),
  totalMs: toMicroseconds(now - start),
});

/**
 * A failure with what the message is called: to look for it where it is in doubt, and to send the same one again. A doubt that
 * does not say whom it is about is about all.
 */
export function failedSend(
  failure: unknown,
  { messageId, date, envelope }: Pick<ComposedMessage, 'messageId' | 'date' | 'envelope'>,
  logger: Logger,
): unknown {
  if (!isMailError(failure)) return failure;
  const { code, phase, inDoubt } = failure;
  logger.warn('sending failed', { code, phase, inDoubt, messageId });
  const known = {
    ...{ messageId, date: date.toISOString() },
    ...(inDoubt && { unconfirmed: envelope.to }),
  };
  // Whoever logs in or looks up for all may have thrown the same error for another message.
  const isOthers = failure.details.messageId !== undefined && failure.details.messageId !== messageId;
  return isOthers ? copyMailError(failure, known) : failure.addDetails(known);
}
