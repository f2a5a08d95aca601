import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { type ConnectionOptions, TLSSocket } from 'node:tls';
import { isLoopbackHost } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import SMTPConnection, { type SMTPConnectionSendInfo } from 'nodemailer/lib/smtp-connection';
import { connectionError } from '../diagnosis/connection-failure.ts';
import { SmtpDialogue } from './dialogue.ts';
import { MessageBody } from './message-body.ts';
import { openSocket } from './open-socket.ts';
import { authenticate, loginScrubber } from './sasl.ts';
import type { Delivered, DeliverOptions, SmtpSessionOptions } from './session-contract.ts';
import {
  describeDelivery,
  describeLogin,
  describeLoss,
  describeOpening,
  type FailureContext,
  prematureConfirmation,
  rejectedRecipients,
} from './session-failure.ts';
import { SessionSteps } from './session-steps.ts';
import { TlsProbe } from './tls-probe.ts';
import { checkFingerprint, tlsConnectOptions } from './tls-settings.ts';

const quitLimitMs = 2_000;

const connectionClosed = (): Error => Object.assign(new Error('closed'), { code: 'ECONNRESET' });

/** One SMTP session (RFC 5321): opened, logged in, used for one message after another, closed. */
export class SmtpSession {
  readonly #dialogue = new SmtpDialogue();
  readonly #steps = new SessionSteps(() => this.destroy());
  readonly #options: SmtpSessionOptions;
  readonly #connection: SMTPConnection;
  readonly #socket: Socket;
  readonly #scrub: (text: string) => string;
  /** The library rewrites the errors of login handlers, so our own is kept aside. */
  #loginFailure: unknown;
  /** A transaction was broken off, so the next one begins with RSET. */
  #needsReset = false;

  private constructor(options: SmtpSessionOptions, socket: Socket, tls: ConnectionOptions) {
    const { host, port, timeouts } = options;
    const implicit = options.tls === 'implicit';
    this.#options = options;
    this.#socket = socket;
    this.#scrub = loginScrubber(options.login, options);
    this.#dialogue.onReply = () => this.#steps.progress();
    this.#connection = new SMTPConnection({
      connection: socket,
      host,
      port,
      secure: implicit,
      secured: implicit,
      requireTLS: options.tls === 'starttls',
      ignoreTLS: options.tls === 'none',
      tls,
      name: options.ehloName,
      // Our limits fire first; these only keep the library from waiting for ever.
      connectionTimeout: timeouts.greetingMs * 4,
      greetingTimeout: timeouts.greetingMs * 2,
      socketTimeout: timeouts.confirmMs + timeouts.dataMs + timeouts.commandMs,
      logger: this.#dialogue.logger,
      transactionLog: true,
      customAuth: { FLOWPOST: (exchange) => this.#exchange(exchange) },
    });
    this.#connection.on('error', (error) => this.#steps.fail(error));
    // After a 421 the library says 'end' first and only then what the server had said.
    this.#connection.on('end', () => setImmediate(() => this.#steps.fail(connectionClosed())));
  }

  /**
   * Opens a session up to the point where messages can be sent.
   *
   * @throws MailError with phase `resolve`, `connect`, `tls`, `greeting` or `auth`.
   */
  static async open(options: SmtpSessionOptions, signal?: AbortSignal): Promise<SmtpSession> {
    const { host, port, lookup, timeouts, tlsOptions } = options;
    const tls = tlsConnectOptions(host, tlsOptions);
    const reach = { host, port, lookup, connectMs: timeouts.connectMs, handshakeMs: timeouts.greetingMs };
    const implicit = options.tls === 'implicit';
    const socket = await openSocket({ ...reach, signal, tls: implicit ? tls : undefined });
    const session = new SmtpSession(options, socket, tls);
    try {
      await session.#greet(implicit ? undefined : new TlsProbe(reach), signal);
      await session.#authenticate(signal);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  /** Whether another message can be sent over it, as far as is known without asking. */
  get usable(): boolean {
    return !this.#connection.destroyed;
  }

  /** A session that is parked does not keep the process alive; one in use does. */
  park(parked: boolean): void {
    const socket = this.#connection._socket;
    if (!socket) return;
    if (parked) socket.unref();
    else socket.ref();
  }

  #context(signal: AbortSignal | undefined): FailureContext {
    const { host, port } = this.#options;
    return { host, port, signal, scrub: this.#scrub };
  }

  #checkFingerprint(): void {
    const { tlsOptions } = this.#options;
    const socket = this.#connection._socket;
    if (socket instanceof TLSSocket) {
      checkFingerprint(socket, tlsOptions, this.#options);
    } else if (tlsOptions?.fingerprints) {
      throw connectionError('TLS_NOT_OFFERED', 'tls', this.#context(undefined), {
        message: 'a certificate is pinned, and the server offers no TLS to show it in',
      });
    }
  }

  /** From the greeting to the EHLO reply that counts, over STARTTLS where wanted. */
  async #greet(probe: TlsProbe | undefined, signal: AbortSignal | undefined): Promise<void> {
    const { greetingMs } = this.#options.timeouts;
    const connection = this.#connection;
    try {
      probe?.afterSilence(greetingMs, (wrongMode) => {
        if (this.#dialogue.replies > 0) return;
        this.#steps.fail(wrongMode);
        this.destroy();
      });
      await this.#steps.run<void>(
        signal,
        (cause) => describeOpening(cause, connection.upgrading === true, this.#context(signal)),
        (done) => {
          this.#steps.limit(greetingMs);
          connection.connect(done);
        },
      );
    } catch (error) {
      // A server that never said a word to a plain connection may be waiting for TLS.
      const silent = this.#dialogue.replies === 0 && !signal?.aborted;
      throw (silent && (await probe?.ask(signal))) || error;
    } finally {
      probe?.stop();
    }
    this.#checkFingerprint();
  }

  async #authenticate(signal: AbortSignal | undefined): Promise<void> {
    const { login, host, allowPlaintextAuth, timeouts } = this.#options;
    const context = this.#context(signal);
    if (!login) return;
    if (!this.#connection.secure && !allowPlaintextAuth && !isLoopbackHost(host)) {
      throw connectionError('AUTH_IN_CLEAR_REFUSED', 'auth', context, {
        message: 'the connection is not encrypted, so the credentials were not sent',
      });
    }
    await this.#steps.run<boolean>(
      signal,
      (cause) => this.#loginFailure ?? describeLogin(cause, context),
      (done) => {
        this.#steps.limit(timeouts.commandMs);
        this.#connection.login({ method: 'FLOWPOST' }, done);
      },
    );
  }

  #exchange(exchange: {
    sendCommand(line: string): Promise<{ readonly response: string }>;
    resolve(): void;
    reject(error: Error): void;
  }): void {
    const { login } = this.#options;
    if (!login) throw new Error('nothing to log in with');
    const offered = this.#dialogue.extensions.get('AUTH');
    authenticate(login, offered, this.#options, (line) => exchange.sendCommand(line)).then(
      exchange.resolve,
      (error) => {
        this.#loginFailure = error;
        exchange.reject(new Error('login failed'));
      },
    );
  }

  /**
   * Sends one message.
   *
   * @throws MailError whose phase says how far it got: `envelope`, `data` or `confirm`.
   */
  async deliver(message: ComposedMessage, options: DeliverOptions): Promise<Delivered> {
    const { timeouts } = this.#options;
    const { envelope, sizeBytes } = message;
    const context = this.#context(options.signal);
    let bodyFailure: unknown;
    const body = new MessageBody(message.body, {
      beforeData: () => {
        if (options.onPartial === 'fail') this.#dialogue.assertAllAccepted(envelope.to, context.scrub);
        return options.beforeData?.();
      },
      onPhase: (phase) =>
        phase === 'data'
          ? this.#steps.limitStandstill(timeouts.dataMs, this.#connection._socket as Socket)
          : this.#steps.limit(timeouts.confirmMs),
      onFailure: (error) => {
        bodyFailure = error;
        this.#steps.fail(error);
        this.destroy();
      },
    });
    try {
      this.#dialogue.assertCarries(message);
      if (this.#needsReset) await this.#reset(context);
      this.#needsReset = true;
      const info = await this.#steps.run<SMTPConnectionSendInfo>(
        options.signal,
        (cause) => (cause === bodyFailure ? cause : describeDelivery(cause, body.phase, context)),
        (done) => {
          this.#steps.limit(timeouts.commandMs);
          const { from, to } = envelope;
          // Typed as a stream, used as something with `pipe`, which is all the library asks of it.
          this.#connection.send(
            { from, to: [...to], size: sizeBytes },
            body as unknown as Readable,
            (error, sent) => {
              // An answer before the end: whatever it says, no more of the message may leave, least of all its end.
              const early = body.phase === 'data' || (this.#connection._socket as Socket).writableLength > 0;
              if (early) this.destroy();
              if (!error && (early || body.phase !== 'confirm')) {
                this.#steps.fail(prematureConfirmation(context));
              } else done(error, sent);
            },
          );
        },
      );
      this.#needsReset = false;
      return {
        accepted: info.accepted,
        rejected: rejectedRecipients(info.rejectedErrors ?? [], context.scrub),
        response: context.scrub(info.response),
        ...(info.serverMessageId !== undefined && { serverMessageId: info.serverMessageId }),
      };
    } finally {
      body.destroy();
    }
  }

  /** A session that cannot be reset is as good as dropped; nothing of the new message has left. */
  async #reset(context: FailureContext): Promise<void> {
    try {
      await this.#steps.run<boolean>(
        context.signal,
        (cause) => describeLoss(cause, 'envelope', context),
        (done) => {
          this.#steps.limit(this.#options.timeouts.commandMs);
          this.#connection.reset(done);
        },
      );
    } catch (error) {
      this.destroy();
      throw context.signal?.aborted ? error : connectionError('CONNECTION_LOST', 'envelope', context);
    }
  }

  /** Says QUIT and waits a little for the answer. Failing here means nothing: everything was confirmed before. */
  async close(): Promise<void> {
    if (this.usable) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, quitLimitMs);
        this.#connection.once('end', () => {
          clearTimeout(timer);
          resolve();
        });
        this.#connection.quit();
      });
    }
    this.destroy();
  }

  /** Cuts the connection. */
  destroy(): void {
    this.#steps.stop();
    const upgraded = this.#connection._socket;
    this.#connection.close();
    if (upgraded) upgraded.destroy();
    this.#socket.destroy();
  }
}
