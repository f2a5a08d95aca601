import { createHash } from 'node:crypto';
import {
  anySignal,
  createMessageId,
  type EmailMessage,
  EncryptedText,
  type MailSender,
  type Sandbox,
  type SendOptions,
  type SendReceipt,
  toWireAddress,
} from '@flowpost/core';
import { withDuplicateGuard, withLoopGuard, withRetry, withSandbox } from '@flowpost/transport';
import type { NodeRequest } from '../node.ts';
import { isSecretName } from '../secret-name.ts';
import { finishLeaving } from './finish-leaving.ts';
import { type FlowData, mailTrigger } from './flow-data.ts';
import type { FlowScope } from './flow-scope.ts';

const dayMs = 86_400_000;

/** What a run has beside its request. */
export interface DeliveryContext extends Pick<SendOptions, 'beforeData' | 'transcript' | 'onlyTo'> {
  /** The node in the flow: the same content from another node is another message. */
  readonly nodeId: string;
  readonly flow: FlowData;
  readonly scope: FlowScope;
  /** Cancels the send, waits between attempts included. */
  readonly signal?: AbortSignal | undefined;
  /** Cancels a message that may be leaving, which `signal` then no longer does. Default `signal`. */
  readonly leavingSignal?: AbortSignal | undefined;
  /** How long to wait for a twin that is being sent elsewhere, in milliseconds. Default 60,000. */
  readonly duplicateWaitMs?: number | undefined;
  /** Whoever calls sends to those himself who are more than the server takes in one message. */
  readonly keepsRest?: boolean | undefined;
}

/** Who sends over what, without secrets and the same in every process. */
function sendingScope({ connection }: NodeRequest, nodeId: string, sandbox?: Sandbox): string {
  // What was tried out in a sandbox was not sent.
  return JSON.stringify([nodeId, connection, sandbox], function (this: object, key, shown) {
    const value = (this as Record<string, unknown>)[key];
    // What is secret prints as ***, so a new password makes no new message. Who sends is no secret, though it may be encrypted.
    return value instanceof EncryptedText && !isSecretName(key) ? value.compact : shown;
  });
}

/** A key within its scope. As a hash, because a scope may hold certificates, and stores have limits. */
const scopedKey = (key: string, scope: string): string =>
  createHash('sha256')
    .update(JSON.stringify([key, scope]))
    .digest('base64url');

/** The same id for the same key, so that a message sent again is recognised wherever it arrives. */
function idempotentMessageId(key: string, scope: string, { from, sender }: EmailMessage): string {
  return createMessageId(toWireAddress((sender ?? from).address), scopedKey(key, scope));
}

/**
 * The message with its id, where it has to be known before it is composed: with an `idempotencyKey`, that names the step and goes with
 * the same connection, the same one each time.
 */
export function withMessageId(request: NodeRequest, nodeId: string): NodeRequest {
  const { message, policy } = request;
  const { idempotencyKey, async } = policy;
  if (message.messageId !== undefined || (idempotencyKey === undefined && !async)) return request;
  const messageId =
    idempotencyKey === undefined
      ? createMessageId(toWireAddress((message.sender ?? message.from).address))
      : idempotentMessageId(idempotencyKey, sendingScope(request, nodeId), message);
  return { ...request, message: { ...message, messageId } };
}

/** Guards and retry around a sender, as the policy wants them. */
function guarded(
  sender: MailSender,
  request: NodeRequest,
  { scope, flow, nodeId, duplicateWaitMs, keepsRest = false }: DeliveryContext,
): MailSender {
  const { retry, onDoubt, loopGuard, duplicateWindowMs = 0, idempotencyKey } = request.policy;
  const { clock, attachments } = scope.options;
  let outer = sender;
  const sandbox = scope.options.sandbox ?? request.policy.sandbox;
  const trigger = loopGuard ? mailTrigger(flow) : undefined;
  // Also where it is tried once: more recipients than a server takes in one message are no failure.
  if (!keepsRest || retry.attempts > 1 || onDoubt === 'resend')
    outer = withRetry(outer, { ...retry, onDoubt, clock, closing: scope.closing });
  if (duplicateWindowMs > 0 || idempotencyKey !== undefined) {
    const by = sendingScope(request, nodeId, sandbox);
    outer = withDuplicateGuard(outer, {
      store: scope.duplicateStore,
      scope: by,
      windowMs: duplicateWindowMs > 0 ? duplicateWindowMs : dayMs,
      ...(idempotencyKey !== undefined && { key: scopedKey(idempotencyKey, by) }),
      waitMs: duplicateWaitMs,
      clock,
      attachments,
    });
  }
  if (sandbox) {
    // Where mail is redirected to may be where the flow was started from.
    if (trigger) outer = withLoopGuard(outer, trigger);
    outer = withSandbox(outer, sandbox);
  }
  return trigger ? withLoopGuard(outer, trigger) : outer;
}

/** A signal, or the end of the time allowed for the whole send, attempts and waiting included. */
const orLate = (signal: AbortSignal | undefined, late: AbortSignal | undefined): AbortSignal | undefined =>
  late ? anySignal(signal, late) : signal;

/** @throws MailError for anything but a message the server took, now or before. */
export async function deliver(request: NodeRequest, context: DeliveryContext): Promise<SendReceipt> {
  const { message, connection, policy, session } = request;
  const { scope } = context;
  await using plain =
    session === 'unshared' ? scope.unsharedSender(connection) : scope.sender(connection, session?.variable);
  const { timeoutMs } = policy;
  const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const finishes = 'leavingSignal' in context;
  const sender = finishes ? finishLeaving(plain, orLate(context.leavingSignal, late)) : plain;
  const { closeSession, onPartial, dsn, requireTls } = policy;
  const { beforeData, transcript, onlyTo } = context;
  return await guarded(sender, request, context).send(message, {
    closeSession,
    onPartial,
    dsn,
    requireTls,
    beforeData,
    transcript,
    onlyTo,
    signal: orLate(context.signal, late),
  });
}
