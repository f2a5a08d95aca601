import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { isLoopbackHost, isMailError, type Login, needsSmtpUtf8, untilAborted } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import { connectionError } from '../diagnosis/connection-failure.ts';
import { refusal, type SmtpReply } from '../diagnosis/reply-failure.ts';
import { Deliveries, type EarlyEnvelope } from './deliveries.ts';
import { ownName } from './ehlo-name.ts';
import { senderCommand } from './envelope-commands.ts';
import { assertCarries, type Extensions, readExtensions } from './extensions.ts';
import { isTlsSocket, openSocket } from './open-socket.ts';
import { authenticate, loginScrubber } from './sasl.ts';
import type { Delivered, DeliverOptions, SmtpSessionOptions } from './session-contract.ts';
import { describeLoss, type FailureContext } from './session-failure.ts';
import { ProtocolViolation, SmtpChannel } from './smtp-channel.ts';
import { startTls } from './start-tls.ts';
import { TlsProbe } from './tls-probe.ts';
import { checkFingerprint, tlsConnectOptions } from './tls-settings.ts';
import { Transcript } from './transcript.ts';

const quitLimitMs = 2_000;

/** One SMTP or LMTP session (RFC 5321, RFC 2033): opened, logged in, used for one message after another, closed. */
export class SmtpSession {
  readonly #options: SmtpSessionOptions;
  readonly #channel: SmtpChannel;
  readonly #transcript: Transcript;
  #login: Login | undefined;
  #scrub: (text: string) => string;
  #extensions: Extensions = new Map();
  readonly #deliveries: Deliveries;

  private constructor(options: SmtpSessionOptions, socket: Socket) {
    this.#options = options;
    this.#scrub = loginScrubber(options.login, options);
    this.#transcript = new Transcript((text) => this.#scrub(text));
    this.#transcript.listener = options.transcript;
    this.#channel = new SmtpChannel(socket, this.#transcript);
    this.#deliveries = new Deliveries(this.#channel);
  }

  /**
   * Opens a session up to the point where messages can be sent.
   *
   * @throws MailError with phase `resolve`, `connect`, `tls`, `greeting` or `auth`.
   */
  static async open(options: SmtpSessionOptions, signal?: AbortSignal): Promise<SmtpSession> {
    const session = await SmtpSession.connect(options, signal);
    try {
      await session.login(signal);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  /** The same without the login: up to the EHLO reply that counts. */
  static async connect(options: SmtpSessionOptions, signal?: AbortSignal): Promise<SmtpSession> {
    const { host, port, lookup, timeouts, tlsOptions, record } = options;
    const tls = await tlsConnectOptions(host, tlsOptions);
    const reach = { host, port, lookup, connectMs: timeouts.connectMs, handshakeMs: timeouts.greetingMs };
    const implicit = options.tls === 'implicit';
    const socket = await openSocket({
      ...reach,
      ...{ signal, record },
      tls: implicit ? tls : undefined,
      onPhase: options.onPhase,
    });
    options.onPhase?.('greeting');
    const session = new SmtpSession(options, socket);
    session.#transcript.note(`connected to ${host}:${port}${implicit ? ' over TLS' : ''}`);
    const { remoteAddress = '' } = socket;
    try {
      await session.#greet(implicit ? undefined : new TlsProbe(reach), signal);
      record?.served(remoteAddress);
      return session;
    } catch (error) {
      if (isMailError(error) && error.retryable) record?.failed(remoteAddress);
      session.destroy();
      throw error;
    }
  }

  /** Whether another message can be sent over it, as far as is known without asking. */
  get usable(): boolean {
    return !this.#channel.failed && !this.#deliveries.broken && !this.#channel.hasUnread;
  }

  /** Whether the server takes no more messages in it. */
  get isUsedUp(): boolean {
    return this.#deliveries.isUsedUp;
  }

  /** Whether the next message may say its envelope before this one has its answer (RFC 2920 section 3.1). */
  get takesAhead(): boolean {
    const { lmtp = false, pipelining = 'across-messages' } = this.#options;
    return this.#pipelining && pipelining === 'across-messages' && !lmtp && this.#deliveries.prompt;
  }

  /** What became of the last envelope that came together with the message before it. */
  get early(): EarlyEnvelope | undefined {
    return this.#deliveries.early;
  }

  get #pipelining(): boolean {
    return this.#options.pipelining !== 'off' && this.#extensions.has('PIPELINING');
  }

  /** When what it logged in with stops being valid, in Unix milliseconds; never for a password. */
  get loginExpiresAt(): number {
    const login = this.#login;
    return (login?.kind === 'bearer' && login.expiresAt) || Number.POSITIVE_INFINITY;
  }

  /** What the server announced. */
  get extensions(): Extensions {
    return this.#extensions;
  }

  get encrypted(): TLSSocket | undefined {
    const { socket } = this.#channel;
    return isTlsSocket(socket) ? socket : undefined;
  }

  /** A session that is parked does not keep the process alive; one in use does. */
  park(parked: boolean): void {
    if (parked) this.#channel.socket.unref();
    else this.#channel.socket.ref();
    this.#channel.isIdle = parked;
    this.#transcript.listener = undefined;
  }

  #context(signal: AbortSignal | undefined): FailureContext {
    const { host, port } = this.#options;
    return { host, port, signal, scrub: this.#scrub };
  }

  /**
   * Does a step; an aborted signal ends it and the channel with it. Even what does not wait for the server, such as a
   * caller's hook, is not waited for then.
   */
  #step<Result>(signal: AbortSignal | undefined, work: () => Promise<Result>): Promise<Result> {
    return untilAborted(signal, work, () => this.#channel.abort());
  }

  /** From the greeting to the EHLO reply that counts, over STARTTLS where wanted. */
  async #greet(probe: TlsProbe | undefined, signal: AbortSignal | undefined): Promise<void> {
    const { greetingMs } = this.#options.timeouts;
    try {
      probe?.afterSilence(greetingMs, (wrongMode) => {
        if (this.#channel.replies === 0) this.#channel.fail(wrongMode);
      });
      await this.#step(signal, async () => {
        const greeting = await this.#channel.read(greetingMs);
        if (greeting.code === 0) throw new ProtocolViolation('this is not an SMTP server');
        if (greeting.code !== 220) throw this.#refused('greeting', greeting);
        await this.#hello();
        if (this.#options.tls === 'starttls' || this.#options.tls === 'starttls-if-offered') {
          const upgraded = await startTls(
            this.#channel,
            this.#extensions,
            this.#options,
            this.#context(signal),
          );
          if (upgraded) {
            this.#transcript.note(`now over ${this.encrypted?.getProtocol()}`);
            this.#options.onPhase?.('greeting');
            await this.#hello();
          }
        }
      });
    } catch (cause) {
      // A server that never said a word to a plain connection may be waiting for TLS.
      const silent = this.#channel.replies === 0 && !signal?.aborted;
      throw (silent && (await probe?.ask(signal))) || describeLoss(cause, 'greeting', this.#context(signal));
    } finally {
      probe?.stop();
    }
    this.#checkFingerprint();
  }

  #refused(what: 'greeting' | 'auth', reply: SmtpReply) {
    const { host, port } = this.#options;
    return refusal(what, what, { ...reply, text: this.#scrub(reply.text) }, { host, port });
  }

  async #hello(): Promise<void> {
    const { greetingMs } = this.#options.timeouts;
    const name = this.#options.ehloName ?? ownName(this.#channel.socket.localAddress);
    const verb = this.#options.lmtp ? 'LHLO' : 'EHLO';
    this.#channel.send(`${verb} ${name}\r\n`);
    let reply = await this.#channel.read(greetingMs);
    if (reply.code === 0) throw new ProtocolViolation('no reply to EHLO');
    // A server from before 1995 knows no EHLO, and offers nothing (RFC 5321 section 3.2).
    if (reply.code >= 500 && !this.#options.lmtp) {
      const toEhlo = reply;
      this.#channel.send(`HELO ${name}\r\n`);
      reply = await this.#channel.read(greetingMs).catch((cause) => {
        // It had said what it had to say.
        throw this.#channel.timedOut ? cause : this.#refused('greeting', toEhlo);
      });
    }
    if (reply.code < 200 || reply.code > 299) throw this.#refused('greeting', reply);
    this.#extensions = readExtensions(reply.text);
  }

  #checkFingerprint(): void {
    const { tlsOptions } = this.#options;
    if (this.encrypted) {
      checkFingerprint(this.encrypted, tlsOptions, this.#options);
    } else if (tlsOptions?.fingerprints) {
      throw connectionError('TLS_NOT_OFFERED', 'tls', this.#context(undefined), {
        message: 'a certificate is pinned, and the server offers no TLS to show it in',
      });
    }
  }

  /** Logs in, when there is a login. */
  async login(signal?: AbortSignal, login = this.#options.login): Promise<void> {
    const { host, allowPlaintextAuth, timeouts } = this.#options;
    if (!login) return;
    this.#login = login;
    if (login !== this.#options.login) this.#scrub = loginScrubber(login, this.#options);
    const context = this.#context(signal);
    if (!this.encrypted && !allowPlaintextAuth && !isLoopbackHost(host)) {
      throw connectionError('AUTH_IN_CLEAR_REFUSED', 'auth', context, {
        message: 'the connection is not encrypted, so the credentials were not sent',
      });
    }
    if (!this.encrypted && !this.#extensions.has('AUTH') && this.#extensions.has('STARTTLS')) {
      throw connectionError('AUTH_NOT_OFFERED', 'auth', context, {
        message: 'the server offers no login without TLS',
        hint: 'The server may take logins after STARTTLS only. Set tls to starttls; if that does not help, it takes none on this port.',
      });
    }
    try {
      await this.#step(signal, () =>
        authenticate(
          login,
          this.#extensions.get('AUTH'),
          this.#options,
          (line) => {
            this.#channel.send(`${line}\r\n`);
            return this.#channel.read(timeouts.commandMs);
          },
          this.#scrub,
        ),
      );
    } catch (cause) {
      throw describeLoss(cause, 'auth', context);
    }
  }

  /**
   * Sends one message; behind another one that has no answer yet, where the session `takesAhead`.
   *
   * @throws MailError whose phase says how far it got: `envelope`, `data` or `confirm`.
   */
  async deliver(message: ComposedMessage, options: DeliverOptions): Promise<Delivered> {
    const { signal } = options;
    signal?.throwIfAborted();
    assertCarries(this.#extensions, message, {
      requireTls: options.requireTls === true,
      encrypted: this.encrypted !== undefined,
    });
    this.#transcript.listener = options.transcript;
    const { timeouts, lmtp = false } = this.#options;
    const told = { extensions: this.#extensions, pipelining: this.#pipelining };
    const state = { ...told, timeouts, lmtp, scrub: this.#scrub };
    return this.#deliveries.run(message, options, state, this.#context(signal));
  }

  /** Asks whether mail from an address would be taken, and takes the question back; nothing is sent. */
  async askSender(from: string, signal?: AbortSignal): Promise<void> {
    const { timeouts } = this.#options;
    const question = { envelope: { from, to: [], smtpUtf8: needsSmtpUtf8(from) }, sizeBytes: 0 };
    assertCarries(this.#extensions, question, { requireTls: false, encrypted: false });
    try {
      await this.#step(signal, async () => {
        this.#channel.send(senderCommand(from));
        const reply = await this.#channel.read(timeouts.commandMs);
        if (reply.code === 0) throw new ProtocolViolation('no reply to MAIL');
        if (reply.code > 299)
          throw refusal('sender', 'envelope', { ...reply, text: this.#scrub(reply.text) });
        this.#channel.send('RSET\r\n');
        await this.#channel.read(timeouts.commandMs);
      });
    } catch (cause) {
      throw describeLoss(cause, 'envelope', this.#context(signal));
    }
  }

  /** Says QUIT and waits a little for the answer. Failing here means nothing: everything was confirmed before. */
  async close(): Promise<void> {
    this.#channel.isIdle = false;
    if (this.usable) {
      this.#channel.send('QUIT\r\n');
      await this.#channel.read(quitLimitMs).catch(() => undefined);
    }
    this.destroy();
  }

  /** Says QUIT and cuts the connection without waiting for the answer. */
  leave(): void {
    this.#channel.isIdle = false;
    if (this.usable) this.#channel.send('QUIT\r\n');
    this.#channel.end();
  }

  /** Cuts the connection. */
  destroy(): void {
    this.#channel.fail(new Error('closed'));
  }
}
