import { anySignal, isMailError, type MailError } from '@flowpost/core';
import { connectionError } from '../diagnosis/connection-failure.ts';
import { type OpenSocketOptions, openSocket } from './open-socket.ts';

/** How Node calls what the other side said with an alert (RFC 8446 section 6). */
const isAlert = (reason: unknown): boolean => typeof reason === 'string' && /^ERR_SSL_.*_ALERT_/.test(reason);

/** A greeting may take its time, so nothing is asked before this much silence. */
const patienceMs = 5_000;

/**
 * Tells a server that waits for TLS from one that is merely slow. A plain connection to a port with implicit TLS
 * hears nothing at all; so, on a connection of its own, the probe offers TLS and looks whether it is taken.
 */
export class TlsProbe {
  readonly #reach: OpenSocketOptions;
  #timer: NodeJS.Timeout | undefined;
  readonly #stopped = new AbortController();
  #answer: Promise<MailError | undefined> | undefined;

  constructor(reach: OpenSocketOptions) {
    this.#reach = reach;
  }

  /** Asks, once: the error to report when the server speaks TLS, undefined when it does not. */
  ask(signal?: AbortSignal): Promise<MailError | undefined> {
    this.#answer ??= this.#speaksTls(signal).then((speaksTls) =>
      speaksTls
        ? connectionError('TLS_WRONG_MODE', 'tls', this.#reach, {
            message: 'the server expects TLS from the first byte on this port',
            details: { serverExpects: 'implicit' },
          })
        : undefined,
    );
    return this.#answer;
  }

  /** Asks by itself after some silence, and reports when the server speaks TLS. */
  afterSilence(limitMs: number, report: (wrongMode: MailError) => void): void {
    this.#timer = setTimeout(
      async () => {
        const wrongMode = await this.ask();
        if (wrongMode && this.#timer) report(wrongMode);
      },
      Math.min(patienceMs, limitMs / 2),
    );
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#stopped.abort();
  }

  async #speaksTls(caller: AbortSignal | undefined): Promise<boolean> {
    try {
      // Nothing is sent over it, so the certificate does not matter.
      const tls = { host: this.#reach.host, rejectUnauthorized: false };
      const signal = anySignal(this.#stopped.signal, caller);
      const socket = await openSocket({
        ...this.#reach,
        signal,
        tls,
        handshakeMs: Math.min(patienceMs, this.#reach.handshakeMs),
      });
      socket.destroy();
      return true;
    } catch (error) {
      // Whoever refuses the handshake in the protocol's own words speaks it.
      return isMailError(error) && (error.code === 'TLS_PROTOCOL_TOO_OLD' || isAlert(error.details.reason));
    }
  }
}
