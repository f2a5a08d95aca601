import { cancellationOf, MailError, type Phase } from '@flowpost/core';
import { connectionError, connectionFailure, type Endpoint } from '../diagnosis/connection-failure.ts';
import { refusal, type SmtpReply } from '../diagnosis/reply-failure.ts';
import { EarlyAnswer } from './message-writer.ts';
import { ProtocolViolation, type SmtpChannel } from './smtp-channel.ts';
import { SessionDropped } from './transaction.ts';

/** What is known when a step of a session fails. */
export interface FailureContext extends Endpoint {
  readonly signal: AbortSignal | undefined;
  /** Takes secrets out of a text, should the server have echoed them. */
  readonly scrub: (text: string) => string;
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
  if (cause instanceof MailError) return cause;
  const cancelled = context.signal?.aborted === true;
  if (phase === 'confirm') {
    const why = cancelled ? cancellationOf(context.signal).message : 'the connection was lost';
    return connectionError('DELIVERY_IN_DOUBT', phase, context, {
      message: `${why} after the whole message had been handed over and before the server replied`,
      cause,
    });
  }
  if (cancelled) return cancellation(phase, context);
  if (cause instanceof ProtocolViolation) {
    return connectionError('PROTOCOL_VIOLATED', phase, context, { message: 'what came in is not SMTP' });
  }
  return connectionFailure(cause, phase, context);
}

/** A failure while a message was being sent; `phase` is how much of it had left. */
export function describeDelivery(
  cause: unknown,
  phase: Phase,
  context: FailureContext,
  channel: SmtpChannel,
): unknown {
  if (cause instanceof SessionDropped) return connectionError('CONNECTION_LOST', 'envelope', context);
  if (cause instanceof EarlyAnswer) return describeEarlyAnswer(phase, cause.reply, context);
  const isOurs = cause instanceof ProtocolViolation || channel.causedBy(cause);
  // What the caller's hook or an attachment's stream threw is theirs, as long as the end has not left.
  return isOurs || phase === 'confirm' ? describeLoss(cause, phase, context) : cause;
}

/**
 * An answer before the end: whatever it says, the rest of the message has not left. A "no" is one all the same; a "yes"
 * to a message the server did not have leaves it to anybody's guess what it has.
 */
function describeEarlyAnswer(phase: Phase, reply: SmtpReply | undefined, context: FailureContext): MailError {
  if (reply && reply.code >= 400) {
    return refusal('message', phase, { ...reply, text: context.scrub(reply.text) });
  }
  if (phase === 'envelope' || !reply || reply.code === 0)
    return describeLoss(new ProtocolViolation('an answer nobody asked for'), phase, context);
  return connectionError('DELIVERY_IN_DOUBT', 'confirm', context, {
    message: 'the server confirmed the message before it had all of it',
  });
}
