import type { Login, RejectedRecipient, Timeouts, TlsMode, TlsOptions } from '@flowpost/core';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import type { Lookup } from './open-socket.ts';

/** What a session is opened with. */
export interface SmtpSessionOptions extends Endpoint {
  readonly tls: Exclude<TlsMode, 'auto'>;
  readonly tlsOptions?: TlsOptions | undefined;
  readonly timeouts: Timeouts;
  readonly ehloName?: string | undefined;
  readonly allowPlaintextAuth?: boolean;
  /** Logs in when given. */
  readonly login?: Login | undefined;
  readonly lookup?: Lookup | undefined;
}

export interface DeliverOptions {
  readonly onPartial: 'accept' | 'fail';
  readonly beforeData?: (() => void | Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What the server said about one message, safe to show. */
export interface Delivered {
  readonly accepted: readonly string[];
  readonly rejected: readonly RejectedRecipient[];
  readonly response: string;
  readonly serverMessageId?: string;
}
