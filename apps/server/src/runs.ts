import {
  createMessageId,
  isMailError,
  type Logger,
  MailError,
  type SecretBox,
  toWireAddress,
} from '@flowpost/core';
import type { AttachmentPolicy } from '@flowpost/mime-attachments';
import {
  type FlowData,
  findNode,
  type NodeOutcome,
  NodeRun,
  type PreparedRun,
  parseFlowData,
} from '@flowpost/node-adapter';
import { connectionFingerprint } from '@flowpost/transport';
import { v7 as timeOrderedId } from 'uuid';
import type { z } from 'zod';
import { revealConnection } from './connections/connection-json.ts';
import type { ConnectionStore } from './connections/connection-store.ts';
import type { HostAccess } from './connections/host-access.ts';
import { KeptAnswers } from './kept-answers.ts';
import type { Metrics } from './observability/metrics.ts';
import type { Delivery, NewDelivery } from './outbox/delivery.ts';
import type { Known } from './outbox/delivery-reader.ts';
import { firstAttempt } from './outbox/delivery-row.ts';
import type { DeliveryRunner } from './outbox/delivery-runner.ts';
import type { DeliveryStore } from './outbox/delivery-store.ts';
import { laneOf } from './outbox/lane.ts';
import type { Outbox } from './outbox/outbox.ts';
import { tell } from './outbox/tell.ts';
import { isSealedElsewhere } from './security/sealed-elsewhere.ts';
import { TakingIn } from './taking-in.ts';

export interface RunRequest {
  readonly type: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly flow?: unknown;
  readonly nodeId?: string | undefined;
  readonly apiKey: string;
  readonly idempotencyKey?: string | undefined;
  /** Takes room in memory for what is attached, in bytes; throws where there is none. */
  readonly takeRoom: (bytes: number) => void;
}

type WithoutFlow<Outcome> = Outcome extends unknown ? Omit<Outcome, 'flow'> : never;

/** What a run answers. `deliveryId` is missing when nothing was begun. */
export interface RunAnswer {
  readonly deliveryId?: string | undefined;
  readonly outcome: WithoutFlow<NodeOutcome>;
  readonly flow: Omit<FlowData, 'variables'>;
}

export interface RunsOptions {
  readonly box: SecretBox;
  readonly connections: ConnectionStore;
  readonly deliveries: DeliveryStore;
  readonly outbox: Outbox;
  readonly runner: DeliveryRunner;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly hostAccess: HostAccess;
  /** What attachments may be read. */
  readonly attachments: AttachmentPolicy | undefined;
  /** The server is going down. */
  readonly closing: AbortSignal;
  /** There is no more time for what is under way. */
  readonly cut: AbortSignal;
  /** Something was put into the outbox. */
  readonly onQueued: (lane: string) => void;
}

/** Variables hold logins, and a node changes none: whoever gave them has them. */
const answerOf = ({ flow, ...outcome }: NodeOutcome, deliveryId?: string): RunAnswer => {
  const { variables: _, ...shown } = flow;
  return { ...(deliveryId !== undefined && { deliveryId }), outcome, flow: shown };
};

/** In place of one that is not there any more, where nothing will be sent over it. */
const anyConnection = { host: 'localhost', from: 'nobody@example.invalid' };
/** How long a twin waits for the first one's outcome. */
const twinWaitMs = 120_000;
const pollMs = 100;
const ends: readonly string[] = ['sent', 'partial', 'failed', 'in-doubt', 'cancelled'];

/** Runs nodes for the API: every run is a delivery that is written down before anything leaves. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #answers: KeptAnswers;
  readonly #takingIn: TakingIn;
  /** Sealed connections that came with settings, by fingerprint: sealing the same one again is not worth it. */
  readonly #sealed = new Map<string, string>();

  constructor(options: RunsOptions) {
    this.#options = options;
    this.#answers = new KeptAnswers(options);
    this.#takingIn = new TakingIn(options.attachments);
  }

  /** @throws MailError `NODE_TYPE_UNKNOWN`, `CONNECTION_NOT_FOUND`, `IDEMPOTENCY_CONFLICT`, or of phase `validate` for flow data. */
  async run(request: RunRequest): Promise<RunAnswer> {
    const node = findNode(request.type);
    const flow = parseFlowData(request.flow);
    const found = await this.#answers.before(request);
    const before = found?.isLeft ? undefined : found;
    const kept = await this.#answers.open(before?.answer);
    if (kept) return kept;
    const host = { flow, nodeId: request.nodeId };
    const opened = await this.#options.connections.inSettings(request.settings).catch((error) => {
      const isGone = isMailError(error) && error.code === 'CONNECTION_NOT_FOUND';
      if (!isGone && !isSealedElsewhere(error)) throw error;
      // What was taken in under this key was taken in, whatever became of its connection since.
      if (before)
        return { settings: { ...request.settings, connection: anyConnection }, connectionId: undefined };
      if (!isGone) throw error;
      return error;
    });
    // The flow's author says what becomes of it, as with every other mistake in the settings.
    if (isMailError(opened)) return answerOf(new NodeRun(node, request.settings, host).failed(opened));
    const { settings, connectionId } = opened;
    const run = new NodeRun(node, settings, host);
    let prepared: PreparedRun;
    let lane: string;
    try {
      prepared = run.prepare();
      lane = laneOf(prepared.request.connection);
      if (!before && connectionId === undefined)
        this.#options.hostAccess.assertInline(prepared.request.connection);
    } catch (error) {
      return answerOf(run.failed(error));
    }
    if (before) return this.#again(before, request, run, prepared);
    using takingIn = prepared.request.policy.async ? this.#takingIn.begin(prepared, request) : undefined;
    try {
      if (takingIn) prepared = await takingIn.prepared;
    } catch (error) {
      if (!isMailError(error)) throw error;
      // The same may have been taken in by another server meanwhile.
      const since = await this.#answers.before(request);
      const isKnown = since !== undefined && !since.isLeft;
      return isKnown ? this.#again(since, request, run, prepared) : answerOf(run.failed(error, prepared));
    }
    const replaces = found?.isLeft ? found.id : undefined;
    const delivery = { ...(await this.#deliveryOf(request, prepared, { lane, connectionId })), replaces };
    const known = await this.#options.outbox.put(delivery);
    if (known) return this.#again(known, request, run, prepared);
    const { async } = prepared.request.policy;
    this.#options.metrics.accepted(async ? 'async' : 'sync');
    if (async) {
      this.#options.onQueued(delivery.lane);
      return answerOf(run.queued(withMessageId(prepared, delivery.messageId)), delivery.id);
    }
    const answer = answerOf(await this.#sendNow(delivery, run, prepared), delivery.id);
    if (request.idempotencyKey !== undefined)
      await tell(this.#options.cut, () => this.#answers.keep(delivery.id, answer)).catch(() => undefined);
    return answer;
  }

  async #deliveryOf(
    request: RunRequest,
    { request: prepared }: PreparedRun,
    { lane, connectionId }: { readonly lane: string; readonly connectionId: string | undefined },
  ): Promise<NewDelivery> {
    const { message, policy, session } = prepared;
    // Ids that follow each other fill the pages of an index one after another; those of chance touch them all.
    const id = timeOrderedId();
    const { flow, nodeId, type, idempotencyKey } = request;
    const trigger = parseFlowData(flow).trigger;
    return {
      id,
      mode: policy.async ? 'async' : 'sync',
      nodeType: type,
      nodeId: nodeId ?? type,
      messageId:
        message.messageId ?? createMessageId(toWireAddress((message.sender ?? message.from).address), id),
      recipients: [...message.to, ...message.cc, ...message.bcc].map(({ address }) => address),
      subject: message.subject,
      // A message that waits for hours was written when it was taken in (RFC 5322 section 3.6.1).
      request: {
        message: { ...message, date: message.date ?? new Date() },
        policy,
        unshared: session === 'unshared',
        trigger,
      },
      connectionId,
      sealed: connectionId === undefined ? await this.#seal(prepared.connection) : undefined,
      lane,
      store: policy.store,
      apiKey: request.apiKey,
      idempotencyKey,
      bodyHash: idempotencyKey === undefined ? undefined : await this.#answers.sealedHash(request),
    };
  }

  async #seal(connection: PreparedRun['request']['connection']): Promise<string> {
    const fingerprint = connectionFingerprint(connection);
    const known = this.#sealed.get(fingerprint);
    if (known !== undefined) return known;
    const { compact } = await this.#options.box.encrypt(revealConnection(connection));
    if (this.#sealed.size > 1_000) this.#sealed.clear();
    this.#sealed.set(fingerprint, compact);
    return compact;
  }

  async #sendNow(
    delivery: NewDelivery,
    run: NodeRun<z.ZodType>,
    prepared: PreparedRun,
  ): Promise<NodeOutcome> {
    const { runner } = this.#options;
    try {
      const sealed = delivery.sealed ?? (await this.#seal(prepared.request.connection));
      const isStored = delivery.sealed === undefined;
      const claim = {
        ...delivery,
        attempt: firstAttempt,
        tries: 1,
        bytes: 0,
        sealed,
        isStored,
        triedSince: Date.now(),
      };
      return run.sent(await runner.run(claim, { keepsTrying: false }), prepared);
    } catch (error) {
      const isElsewhere = isMailError(error) && error.code === 'DELIVERY_CANCELLED';
      const now = isElsewhere
        ? await this.#options.deliveries.get(delivery.id).catch(() => undefined)
        : undefined;
      // Nobody need have cancelled it: what stood still for long was taken for dead, and its deliveries for left.
      return now && ends.includes(now.state) ? outcomeOf(now, run, prepared) : run.failed(error, prepared);
    }
  }

  /** The same answer as before, for the same key and request. */
  async #again(
    known: Known,
    request: RunRequest,
    run: NodeRun<z.ZodType>,
    prepared: PreparedRun,
  ): Promise<RunAnswer> {
    const { apiKey, idempotencyKey = '' } = request;
    await this.#answers.assertSame(known, request);
    const { closing } = this.#options;
    const found = await this.#options.deliveries.get(known.id);
    const isQueued = known.mode === 'async';
    // One that was put into the outbox later, by a person, was not answered so; what became of it is the answer.
    const wasWaitedFor = isQueued && ends.includes(known.state) && (await this.#wasWaitedFor(known.id));
    if (isQueued && !wasWaitedFor)
      return answerOf(run.queued(withMessageId(prepared, found?.messageId ?? '')), known.id);
    for (let waited = 0; waited < twinWaitMs && !closing.aborted; waited += pollMs) {
      const now = await this.#options.deliveries.findByKey(apiKey, idempotencyKey);
      if (!now) break;
      const kept = await this.#answers.open(now.answer);
      if (kept) return kept;
      if (ends.includes(now.state)) {
        // Written down how it ended, but not what was answered: the process ended in between, or a person decided.
        const ended = await this.#options.deliveries.get(known.id);
        const isSent = ended?.receipt && ended.state !== 'in-doubt';
        if (ended && (isSent || wasWaitedFor || waited > 1_000))
          return answerOf(outcomeOf(ended, run, prepared), known.id);
      }
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
    throw new MailError('DUPLICATE_PENDING', 'The same request is being worked on.', { retryable: true });
  }

  async #wasWaitedFor(id: string): Promise<boolean> {
    const [first] = await this.#options.deliveries.events(id);
    return first?.state === 'sending';
  }
}

/** How one ended: its receipt, its failure, or that somebody cancelled what had failed before. */
function outcomeOf(
  { state, receipt, error }: Delivery,
  run: NodeRun<z.ZodType>,
  prepared: PreparedRun,
): NodeOutcome {
  if (receipt && state !== 'in-doubt') return run.sent(receipt, prepared);
  if (error && state !== 'cancelled') return run.failedBefore(error, prepared);
  return run.failed(new MailError('DELIVERY_CANCELLED', 'The delivery was cancelled.'), prepared);
}

function withMessageId(prepared: PreparedRun, messageId: string): PreparedRun {
  const { request } = prepared;
  return { ...prepared, request: { ...request, message: { ...request.message, messageId } } };
}
