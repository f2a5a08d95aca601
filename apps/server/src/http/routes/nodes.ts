import { MailError } from '@flowpost/core';
import { findNode, listNodes, parseFlowData, prepareRun, previewRequest } from '@flowpost/node-adapter';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { ended } from '../../outbox/ended.ts';
import type { FlowpostServer } from '../../parts.ts';
import { problemOf, statusOf } from '../problem.ts';
import { route } from '../route.ts';
import { previewBodySchema, runAnswerSchema, runBodySchema } from '../schemas.ts';

const type = z.strictObject({ type: z.string().min(1).max(100) });

/** Nodes: what there is, running one, and what one would send. */
export const nodeRoutes = ({
  runs,
  connections,
  hostAccess,
  scope,
}: Pick<FlowpostServer, 'runs' | 'connections' | 'hostAccess' | 'scope'>) => [
  route({
    method: 'GET',
    path: '/v1/nodes',
    operationId: 'listNodes',
    summary: 'Every kind of step, with its form and a JSON Schema of its settings',
    tag: 'nodes',
    scope: 'send',
    answers: {
      200: {
        description: 'The nodes.',
        schema: z.strictObject({ nodes: z.array(z.looseObject({ type: z.string() })) }),
      },
    },
    handle: () => ({ nodes: listNodes() }),
  }),
  route({
    method: 'POST',
    path: '/v1/nodes/{type}/runs',
    operationId: 'runNode',
    summary: 'Run a step: send a message, or put it into the outbox',
    tag: 'nodes',
    scope: 'send',
    params: type,
    body: runBodySchema,
    headers: {
      'Idempotency-Key':
        'The same key with the same request and API key gets the same answer, as long as the delivery is kept; with another request it is a conflict. At most 255 characters.',
    },
    answers: {
      200: {
        description: 'It ended, and the flow goes on. `outcome` says whether it was sent.',
        schema: runAnswerSchema,
      },
      202: {
        description: 'It is in the outbox and will be sent, whatever happens to this server.',
        schema: runAnswerSchema,
      },
    },
    async handle({ params, body, key, request, reply, takeRoom }) {
      const idempotencyKey = readKey(request.headers['idempotency-key']);
      const answer = await runs.run({
        ...body,
        nodeId: body.nodeId ?? undefined,
        type: params.type,
        ...{ apiKey: key.id, takeRoom },
        ...(idempotencyKey !== undefined && { idempotencyKey }),
      });
      const { outcome } = answer;
      if (answer.deliveryId !== undefined) reply.header('location', `/v1/deliveries/${answer.deliveryId}`);
      if ('receipt' in outcome && outcome.receipt.status === 'queued') reply.status(202);
      // Who stops on errors is told so by the status; who goes on looks at the outcome.
      if ('error' in outcome && outcome.kind === 'halt')
        return halted(reply, request.id, answer, idempotencyKey !== undefined);
      return answer;
    },
  }),
  route({
    method: 'POST',
    path: '/v1/previews',
    operationId: 'previewNode',
    summary: 'The exact bytes a run would send, without sending them',
    tag: 'nodes',
    scope: 'send',
    body: previewBodySchema,
    answers: {
      200: { description: 'The message (RFC 5322).', schema: z.string(), contentType: 'message/rfc822' },
    },
    async handle({ body, reply }) {
      const { node, settings, flow, nodeId } = body;
      const { settings: given, connectionId } = await connections.inSettings(settings);
      const { secretBox, attachments, sandbox } = scope.options;
      const host = { flow: parseFlowData(flow), nodeId: nodeId ?? undefined };
      const { request } = prepareRun(findNode(node), given, host);
      // Before a file that it names is read.
      if (connectionId === undefined) hostAccess.assertInline(request.connection);
      const { body: message } = await previewRequest(request, {
        secretBox,
        attachments,
        sandbox,
        flow: host.flow,
      });
      return reply.type('message/rfc822').send(message);
    },
  }),
];

const longestKey = 255;

function readKey(header: string | string[] | undefined): string | undefined {
  if (typeof header !== 'string' || header === '') return undefined;
  if (header.length <= longestKey) return header;
  throw new MailError('INPUT_INVALID', `Idempotency-Key: it has more than ${longestKey} characters.`, {
    details: { issues: [{ path: 'Idempotency-Key', message: `more than ${longestKey} characters` }] },
  });
}

function halted(
  reply: FastifyReply,
  id: string,
  { outcome, flow, deliveryId }: Awaited<ReturnType<FlowpostServer['runs']['run']>>,
  hasKey: boolean,
): FastifyReply {
  if (!('error' in outcome)) throw new Error('there is no error');
  const { error } = outcome;
  const again =
    error.code === ended.code
      ? 'The same request under this Idempotency-Key is a new one.'
      : `Under this Idempotency-Key the answer stays the same: to try again, POST /v1/deliveries/${deliveryId}/retry or use another key.`;
  const hint = hasKey && error.retryable && deliveryId !== undefined ? `${error.hint} ${again}` : error.hint;
  const problem = problemOf({ ...error, hint }, id, {
    outcome,
    flow,
    ...(deliveryId !== undefined && { deliveryId }),
  });
  const { retryAfterMs } = error.details ?? {};
  if (error.retryable && typeof retryAfterMs === 'number')
    reply.header('retry-after', Math.max(1, Math.ceil(retryAfterMs / 1_000)));
  return reply.status(statusOf(outcome.error)).type('application/problem+json').send(problem);
}
