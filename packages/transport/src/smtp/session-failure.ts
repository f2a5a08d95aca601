import { cancellationOf, MailError, type Phase, type RejectedRecipient } from '@flowpost/core';
import {
  connectionError,
  connectionFailure,
  type Endpoint,
  safeCause,
} from '../diagnosis/connection-failure.ts';
import { parseReply, type Refused, replyFailure } from '../diagnosis/reply-failure.ts';

/** What is known when a step of a session fails. */
export interface FailureContext extends Endpoint {
  readonly signal: AbortSignal | undefined;
  /** Takes secrets out of a text, should the server have echoed them. */
  readonly scrub: (text: string) => string;
}

/** What the SMTP library's errors carry. Their `code` and `command` do not tell the phase; a reply does, if there is one. */
interface LibraryError {
  readonly code?: string;
  readonly command?: string;
  readonly response?: string;
  readonly rejectedErrors?: readonly {
    readonly recipient?: string | undefined;
    readonly response?: string | undefined;
  }[];
}

/** The negative reply behind an error. */
function negativeReply(cause: unknown, scrub: (text: string) => string) {
  const { response } = cause as LibraryError;
  const reply = typeof response === 'string' ? parseReply(scrub(response)) : undefined;
  return reply && reply.code >= 400 ? reply : undefined;
}

/** What an aborted signal means: the caller's wish, or the end of the time allowed. Nothing was delivered. */
export function cancellation(
  phase: Phase,
  context: Endpoint & { readonly signal: AbortSignal | undefined },
): MailError {
  const { code, ...extra } = cancellationOf(context.signal);
  return connectionError(code, phase, context, extra);
}

/** A failure without a reply: what was lost depends on how far we were, and on nothing else. */
export function describeLoss(cause: unknown, phase: Phase, context: FailureContext): MailError {
  const cancelled = context.signal?.aborted === true;
  if (phase === 'confirm') {
    const why = cancelled ? 'the send was cancelled' : 'the connection was lost';
    return connectionError('DELIVERY_IN_DOUBT', phase, context, {
      message: `${why} after the whole message had been handed over and before the server replied`,
      cause: safeCause(cause),
    });
  }
  if (cause instanceof MailError) return cause;
  if (cancelled) return cancellation(phase, context);
  return connectionFailure(cause, phase, context);
}

/** A server that said yes to a message it did not have yet: what it has is anybody's guess. */
export function prematureConfirmation(context: FailureContext): MailError {
  return connectionError('DELIVERY_IN_DOUBT', 'confirm', context, {
    message: 'the server confirmed the message before it had all of it',
  });
}

/** A failure while the session was being opened, up to the EHLO reply that can be trusted. */
export function describeOpening(cause: unknown, upgrading: boolean, context: FailureContext): MailError {
  const reply = negativeReply(cause, context.scrub);
  const { code, command } = cause as LibraryError;
  if (reply && (code === 'ETLS' || command === 'STARTTLS')) {
    return connectionError('TLS_NOT_OFFERED', 'tls', context, {
      message: 'the server does not offer STARTTLS',
      details: { reply: reply.text },
    });
  }
  if (reply) return replyFailure('greeting', 'greeting', reply, { host: context.host, port: context.port });
  if (code === 'EPROTOCOL') {
    return connectionError('PROTOCOL_VIOLATED', 'greeting', context, {
      message: 'this is not an SMTP server',
    });
  }
  return describeLoss(cause, upgrading ? 'tls' : 'greeting', context);
}

/** A failure of the login that came neither from us nor in a proper reply: a last line without its end, for instance. */
export function describeLogin(cause: unknown, context: FailureContext): MailError {
  const reply = negativeReply(cause, context.scrub);
  return reply ? replyFailure('auth', 'auth', reply) : describeLoss(cause, 'auth', context);
}

/** Which part of the transaction a reply was about, by the command it answered. */
const refusedBy: Readonly<Record<string, Refused>> = { 'MAIL FROM': 'sender', 'RCPT TO': 'recipients' };

/** Refused recipients with their replies, safe to show. A reply that is not SMTP has the code 0. */
export function rejectedRecipients(
  errors: NonNullable<LibraryError['rejectedErrors']>,
  scrub: (text: string) => string,
): RejectedRecipient[] {
  return errors.map(({ recipient = '', response = '' }) => ({
    address: recipient,
    code: parseReply(response)?.code ?? 0,
    reply: scrub(response),
  }));
}

/** A failure while a message was being sent; `phase` is how much of it had left. */
export function describeDelivery(cause: unknown, phase: Phase, context: FailureContext): MailError {
  const reply = negativeReply(cause, context.scrub);
  if (!reply) return describeLoss(cause, phase, context);
  const { command = '', rejectedErrors } = cause as LibraryError;
  const rejected = rejectedErrors && rejectedRecipients(rejectedErrors, context.scrub);
  return replyFailure(refusedBy[command] ?? 'message', phase, reply, rejected ? { rejected } : {});
}
