import type {
  DeliveryNotification,
  Login,
  Lookup,
  Phase,
  RejectedRecipient,
  SmtpConnection,
  Timeouts,
  TlsMode,
  TlsOptions,
  TranscriptListener,
} from '@flowpost/core';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import type { AddressRecord } from './happy-eyeballs.ts';

/** What a session is opened with. */
export interface SmtpSessionOptions extends Endpoint {
  readonly tls: Exclude<TlsMode, 'auto'>;
  readonly tlsOptions?: TlsOptions | undefined;
  readonly timeouts: Timeouts;
  readonly ehloName?: string | undefined;
  readonly allowPlaintextAuth?: boolean;
  readonly pipelining?: SmtpConnection['pipelining'];
  /** Logs in when given. */
  readonly login?: Login | undefined;
  readonly lookup?: Lookup | undefined;
  /** What is known of the server's addresses, and kept up to date here. */
  readonly record?: AddressRecord | undefined;
  /** Speak LMTP (RFC 2033). */
  readonly lmtp?: boolean;
  /** Told which phase of the opening begins. */
  readonly onPhase?: ((phase: Phase) => void) | undefined;
  /** Hears the opening of the session. */
  readonly transcript?: TranscriptListener | undefined;
}

export interface DeliverOptions {
  readonly onPartial: 'accept' | 'fail';
  readonly beforeData?: (() => void | Promise<void>) | undefined;
  /** Called right before the end of the message leaves; whether the envelope of the next one follows at once. */
  readonly beforeEnd?: (() => boolean) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly dsn?: DeliveryNotification | undefined;
  readonly requireTls?: boolean | undefined;
  /** Hears the dialogue about this message. */
  readonly transcript?: TranscriptListener | undefined;
}

/** What the server said about one message, safe to show. */
export interface Delivered {
  readonly accepted: readonly string[];
  readonly rejected: readonly RejectedRecipient[];
  readonly response: string;
  readonly serverMessageId?: string;
  readonly notifications?: 'requested' | 'not-offered';
}
