import { type AuthProvider, tokenEndpointAt } from '@flowpost/auth-providers';
import {
  type Credential,
  definedOnly,
  guardLogger,
  isMailError,
  type Logger,
  type Login,
  type MailSender,
  type OutgoingMessage,
  type RejectedRecipient,
  type SendOptions,
  type SendReceipt,
  type SmtpConnection,
  silentLogger,
  systemClock,
} from '@flowpost/core';
import { isGivenUp } from '../abortable.ts';
import { afterReading } from '../after-reading.ts';
import { resolveServer } from '../connection-target.ts';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import { InFlight } from '../in-flight.ts';
import { MessageComposer } from '../message-composer.ts';
import { RateLimit } from '../rate-limit.ts';
import {
  failedSend,
  loginProvider,
  type SenderOptions,
  type SendMoments,
  shownUser,
  timingsUntil,
} from '../sending.ts';
import { Slots } from '../slots.ts';
import { Attempts, onlyTo } from './attempts.ts';
import { AddressRecord } from './happy-eyeballs.ts';
import type { Delivered } from './session-contract.ts';
import { cancellation } from './session-failure.ts';
import { type BorrowRequest, type Lease, refuseAlike, SessionPool } from './session-pool.ts';
import { SmtpSession } from './smtp-session.ts';

const defaults = { connections: 5, idleMs: 60_000, lifetimeMs: 540_000 };

/** A refresh token that names no issuer belongs to the one the mail server goes with. */
export function authFor(credential: Credential, host: string): Credential {
  if (credential.kind !== 'oauth2-refresh' || credential.tokenEndpoint !== undefined) return credential;
  return { ...credential, ...definedOnly({ tokenEndpoint: tokenEndpointAt(host) }) };
}

/**
 * How many have a turn at once: the turns of all who wait for a session would be used together when there is one. Where that is
 * little beside the limit, one for each session besides, who may say its envelope with the message before.
 */
const turnsAtOnce = (sessions: number, limit = Number.POSITIVE_INFINITY): number =>
  Math.max(sessions, Math.min(2 * sessions, Math.floor(limit / 10)));

/** A message's turn of the rate limit. */
interface Turn {
  /** Whether it is one of those who have one or are next. */
  hasPlace: boolean;
  /** When it was, on the monotonic clock. */
  at: number;
}

/** Sends over SMTP sessions that it opens when needed, keeps open between sends, and closes when disposed. */
export class SmtpSender implements MailSender {
  readonly #connection: SmtpConnection;
  readonly #options: SenderOptions;
  readonly #endpoint: Endpoint;
  readonly #composer: MessageComposer;
  readonly #pool: SessionPool;
  readonly #rate: RateLimit | undefined;
  /** How many sessions there are at most. */
  readonly #atOnce: number;
  /** Who has a turn of the rate limit, or is next to have one. */
  readonly #turns: Slots;
  readonly #logger: Logger;
  readonly #inFlight: InFlight;
  #closing: Promise<void> | undefined;
  readonly #record = new AddressRecord();

  /** @throws MailError `SERVICE_UNKNOWN`. */
  constructor(connection: SmtpConnection, options: SenderOptions = {}) {
    this.#connection = connection;
    this.#options = options;
    this.#inFlight = new InFlight(options.closeDeadlineMs);
    this.#logger = guardLogger(options.logger ?? silentLogger);
    const server = resolveServer(connection);
    this.#composer = new MessageComposer({ ...connection, limits: server.limits }, options);
    this.#endpoint = { host: server.host, port: server.port };
    const auth = connection.auth && authFor(connection.auth, server.host);
    const provider = auth && loginProvider(auth, { ...options, logger: this.#logger });
    const { clock = systemClock } = options;
    const { messagesPerMinute, ...limits } = server.limits;
    if (messagesPerMinute !== undefined) this.#rate = new RateLimit(messagesPerMinute, 60_000, clock);
    this.#atOnce = limits.connections ?? defaults.connections;
    this.#turns = new Slots(turnsAtOnce(this.#atOnce, messagesPerMinute));
    this.#pool = new SessionPool({
      connections: this.#atOnce,
      idleMs: limits.idleMs ?? defaults.idleMs,
      lifetimeMs: limits.lifetimeMs ?? defaults.lifetimeMs,
      clock,
      open: (request) => this.#openSession(server, provider, request),
    });
  }

  async #openSession(
    server: ReturnType<typeof resolveServer>,
    provider: AuthProvider | undefined,
    { signal, transcript }: BorrowRequest,
  ): Promise<SmtpSession> {
    const { tlsOptions, timeouts, ehloName, allowPlaintextAuth, pipelining, protocol } = this.#connection;
    const given = { tlsOptions, timeouts, ehloName, allowPlaintextAuth };
    const { lookup } = this.#options;
    const lmtp = protocol === 'lmtp';
    const fixed = { host: server.host, port: server.port, tls: server.tls, lmtp, pipelining };
    const open = (login: Login | undefined): Promise<SmtpSession> =>
      SmtpSession.open({ ...fixed, ...given, login, lookup, transcript, record: this.#record }, signal);
    let login = await provider?.login(signal);
    const session = await open(login).catch(async (error) => {
      // A token can be refused before its time; a new one is tried once. A password would only lock the account.
      const isTokenRefused = isMailError(error) && error.code === 'AUTH_REFUSED' && login?.kind === 'bearer';
      if (!provider || !login || !isTokenRefused) throw error;
      await provider.invalidate(login);
      login = await provider.login(signal).catch((failure) => {
        // There was only this one token, so what the server said of it is the news.
        throw isMailError(failure) && failure.code === 'TOKEN_EXPIRED' ? error : failure;
      });
      return open(login);
    });
    this.#logger.debug('SMTP session opened', {
      host: server.host,
      port: server.port,
      user: login && shownUser(login),
    });
    return session;
  }

  send(input: OutgoingMessage, options: SendOptions = {}): Promise<SendReceipt> {
    return this.#inFlight.run(options, (signal) => this.#send(input, options, signal));
  }

  async #send(input: OutgoingMessage, options: SendOptions, signal: AbortSignal): Promise<SendReceipt> {
    const request = { signal, transcript: options.transcript };
    const times = { start: performance.now(), composed: 0, begun: 0 };
    const mayWait =
      this.#pool.full || this.#inFlight.count > Math.min(this.#atOnce, this.#rate?.left ?? this.#atOnce);
    const message = onlyTo(await this.#composer.compose(input, signal, mayWait), options.onlyTo);
    times.composed = performance.now();
    const turn: Turn = { hasPlace: false, at: 0 };
    const attempts = new Attempts(message, options, {
      ...{ pool: this.#pool, signal, logger: this.#logger, endpoint: this.#endpoint },
      borrowFresh: () => this.#borrow(request, turn, true),
    });
    try {
      const lease = await this.#borrow(request, turn, false);
      times.begun = performance.now();
      const delivered = await attempts.run(lease);
      // The news of this message makes work here. While others wait, their servers are given theirs first, all at once.
      if (this.#pool.crowded) await afterReading();
      return this.#receipt(delivered, attempts, times);
    } catch (error) {
      throw this.#failed(error, attempts, signal);
    } finally {
      if (turn.hasPlace) this.#turns.free();
      if (!Buffer.isBuffer(message.body)) message.body.destroy();
    }
  }

  /** A session, with a turn of the rate limit that is had with it. */
  async #borrow(request: BorrowRequest, turn: Turn, fresh: boolean): Promise<Lease> {
    const { signal } = request;
    if (this.#rate && !turn.hasPlace) {
      await this.#turns.take(signal);
      turn.hasPlace = true;
      turn.at = await this.#rate.turn(signal);
    }
    const lease = await this.#pool.borrow(request, fresh);
    if (!this.#rate) return lease;
    const counts = await this.#rate.late(turn.at, signal).catch((error) => {
      void this.#pool.giveBack(lease, true);
      throw error;
    });
    // Who waited with a session may have lost it like one that was parked.
    const isLate = counts !== turn.at;
    turn.at = counts;
    return isLate && !fresh ? { ...lease, reused: true } : lease;
  }

  /** What a send fails with, and all who wait for the same. */
  #failed(error: unknown, { message, refused }: Attempts, signal: AbortSignal): unknown {
    const failure = isGivenUp(error, signal) ? cancellation('connect', { ...this.#endpoint, signal }) : error;
    refuseAlike(this.#turns, failure);
    refuseAlike(this.#rate, failure);
    if (refused.length > 0 && isMailError(failure)) {
      const { rejected = [] } = failure.details as { readonly rejected?: readonly RejectedRecipient[] };
      failure.replaceDetails({ rejected: [...refused, ...rejected] });
    }
    return failedSend(failure, message, this.#logger);
  }

  #receipt(delivered: Delivered, { message, refused, count }: Attempts, times: SendMoments): SendReceipt {
    const { messageId, sizeBytes } = message;
    const now = performance.now();
    const rejected = refused.length > 0 ? [...refused, ...delivered.rejected] : delivered.rejected;
    const status = rejected.length > 0 ? 'partial' : 'sent';
    this.#logger.info('message sent', { status, messageId, ...this.#endpoint });
    return {
      status,
      messageId,
      ...delivered,
      rejected,
      attempts: count,
      timings: timingsUntil(now, times),
      sizeBytes,
    };
  }

  /** Takes nothing more, waits for sends in flight (up to the deadline), then closes every session. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#inFlight.close();
    await this.#pool.close();
  }
}
