import { type AuthProvider, tokenEndpointAt } from '@flowpost/auth-providers';
import {
  type Credential,
  definedOnly,
  guardLogger,
  isMailError,
  type Logger,
  type Login,
  MailError,
  type MailSender,
  type OutgoingMessage,
  type RejectedRecipient,
  type SendOptions,
  type SendReceipt,
  type SmtpConnection,
  silentLogger,
  systemClock,
} from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import { isGivenUp } from '../abortable.ts';
import { afterReading } from '../after-reading.ts';
import { resolveServer } from '../connection-target.ts';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import { isRefusedForAll, isRefusedForNow, isUsedUp } from '../diagnosis/reply-failure.ts';
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

/** The server ended a session that was open before. Of the message no byte was read, so it is whole for a new one. */
function wasDroppedWhileParked(error: unknown): boolean {
  if (!isMailError(error) || error.phase !== 'envelope') return false;
  // RFC 5321 section 4.2.1: with 421 a server closes the session, whatever it was asked.
  // One that says when to come back does not want to be asked again at once.
  const { replyCode, enhancedCode, retryAfterMs } = error.details;
  if (error.code === 'SENDER_DEFERRED' && isUsedUp({ code: replyCode, enhancedCode })) return true;
  return error.code === 'CONNECTION_LOST' || (replyCode === 421 && retryAfterMs === undefined);
}

/** As often a message is begun anew without those over whom the server hung up: a login each. */
const mostHangUps = 10;

/**
 * Whom a server had refused for good when it hung up, so that the others got nothing either: Postfix does so with 521, and with 421 after
 * twenty of them. They are left out when it is tried again.
 */
function hungUpOver(error: unknown, { envelope }: ComposedMessage): readonly RejectedRecipient[] {
  if (!isMailError(error) || error.phase !== 'envelope') return [];
  const { rejected = [], replyCode, retryAfterMs } = error.details;
  const isOver = error.code === 'CONNECTION_LOST' || (replyCode === 421 && retryAfterMs === undefined);
  const refused = rejected as readonly RejectedRecipient[];
  const forGood = refused.filter((one) => !isRefusedForNow(one));
  return isOver && !refused.some(isRefusedForAll) && forGood.length < envelope.to.length ? forGood : [];
}

function onlyTo(message: ComposedMessage, addresses: readonly string[] | undefined): ComposedMessage {
  if (addresses === undefined) return message;
  const { envelope } = message;
  const known = new Set(envelope.to);
  // In the order asked for: who comes first has better chances where a server takes so many.
  const to = [...new Set(addresses)].filter((one) => known.has(one));
  if (to.length > 0) return { ...message, envelope: { ...envelope, to } };
  if (!Buffer.isBuffer(message.body)) message.body.destroy();
  throw new MailError('RECIPIENTS_MISSING', 'None of those in onlyTo is a recipient of the message.');
}

/**
 * How many have a turn at once: the turns of all who wait for a session would be used together when there is one. Where that is
 * little beside the limit, one for each session besides, who may say its envelope with the message before.
 */
const turnsAtOnce = (sessions: number, limit = Number.POSITIVE_INFINITY): number =>
  Math.max(sessions, Math.min(2 * sessions, Math.floor(limit / 10)));

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
    const { closeSession = false, onPartial = 'accept' } = options;
    const request = { signal, transcript: options.transcript };
    const times = { start: performance.now(), composed: 0, begun: 0 };
    const mayWait =
      this.#pool.full || this.#inFlight.count > Math.min(this.#atOnce, this.#rate?.left ?? this.#atOnce);
    let message = onlyTo(await this.#composer.compose(input, signal, mayWait), options.onlyTo);
    times.composed = performance.now();
    let hasPlace = false;
    let turn = 0;
    /** Those over whom the server hung up. */
    const refused: RejectedRecipient[] = [];
    try {
      if (this.#rate) {
        await this.#turns.take(signal);
        hasPlace = true;
        turn = await this.#rate.turn(signal);
      }
      const borrow = async (fresh: boolean): Promise<Lease> => {
        const lent = await this.#pool.borrow(request, fresh);
        if (!this.#rate) return lent;
        const counts = await this.#rate.late(turn, signal).catch((error) => {
          void this.#pool.giveBack(lent, true);
          throw error;
        });
        // Who waited with a session may have lost it like one that was parked.
        const isLate = counts !== turn;
        turn = counts;
        return isLate && !fresh ? { ...lent, reused: true } : lent;
      };
      let lease = await borrow(false);
      times.begun = performance.now();
      let mayLeave = false;
      const beforeData =
        options.beforeData &&
        (async () => {
          await options.beforeData?.();
          mayLeave = true;
        });
      const deliver = async (): Promise<Delivered> => {
        const { dsn, requireTls, transcript } = options;
        const beforeEnd = closeSession || transcript ? undefined : () => this.#pool.offer(lease);
        const deliverOptions = { onPartial, beforeData, beforeEnd, signal, dsn, requireTls, transcript };
        try {
          return await lease.session.deliver(message, deliverOptions);
        } finally {
          const back = this.#pool.giveBack(lease, !closeSession);
          // A caller who gives up does not wait for the session to end.
          if (signal.aborted) back.catch(() => undefined);
          else await back;
        }
      };
      let attempts = 1;
      let hangUps = 0;
      const again = async (): Promise<Delivered> => {
        attempts++;
        lease = await borrow(true);
        return deliver();
      };
      /** Without those because of whom the server hung up. Each time they are fewer. */
      const withOthers = async (error: unknown): Promise<Delivered> => {
        const gone = onPartial === 'accept' && !mayLeave ? hungUpOver(error, message) : [];
        if (gone.length === 0 || ++hangUps > mostHangUps) throw error;
        refused.push(...gone);
        const left = message.envelope.to.filter((to) => !gone.some(({ address }) => address === to));
        message = { ...message, envelope: { ...message.envelope, to: left } };
        return again().catch(withOthers);
      };
      const delivered = await deliver().catch((error) => {
        // Whoever was told that the message leaves need not expect to be told again.
        const isDropped = lease.reused && !mayLeave && wasDroppedWhileParked(error);
        if (!isDropped || hungUpOver(error, message).length > 0) return withOthers(error);
        this.#logger.debug('parked SMTP session had been dropped; opening a new one', { ...this.#endpoint });
        return again().catch(withOthers);
      });
      // The news of this message makes work here. While others wait, their servers are given theirs first, all at once.
      if (this.#pool.crowded) await afterReading();
      const whole =
        refused.length > 0 ? { ...delivered, rejected: [...refused, ...delivered.rejected] } : delivered;
      return this.#receipt(message, whole, attempts, times);
    } catch (error) {
      const failure = isGivenUp(error, signal)
        ? cancellation('connect', { ...this.#endpoint, signal })
        : error;
      refuseAlike(this.#turns, failure);
      refuseAlike(this.#rate, failure);
      if (refused.length > 0 && isMailError(failure)) {
        const { rejected = [] } = failure.details as { readonly rejected?: readonly RejectedRecipient[] };
        failure.replaceDetails({ rejected: [...refused, ...rejected] });
      }
      throw failedSend(failure, message, this.#logger);
    } finally {
      if (hasPlace) this.#turns.free();
      if (!Buffer.isBuffer(message.body)) message.body.destroy();
    }
  }

  #receipt(
    { messageId, sizeBytes }: ComposedMessage,
    delivered: Delivered,
    attempts: number,
    times: SendMoments,
  ): SendReceipt {
    const now = performance.now();
    const status = delivered.rejected.length > 0 ? 'partial' : 'sent';
    this.#logger.info('message sent', { status, messageId, ...this.#endpoint });
    return {
      status,
      messageId,
      ...delivered,
      attempts,
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
