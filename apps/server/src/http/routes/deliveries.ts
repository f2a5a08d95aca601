import { addressKey, isMailError, MailError, parseMessage, type Sandbox } from '@flowpost/core';
import { previewRequest } from '@flowpost/node-adapter';
import { previewMessage } from '@flowpost/transport';
import { z } from 'zod';
import { connectionDeleted } from '../../connections/connection-store.ts';
import { type Delivery, type DeliveryState, deliveryStates } from '../../outbox/delivery.ts';
import type { FlowpostServer } from '../../parts.ts';
import { route } from '../route.ts';
import { deliverySchema, deliveryWithEventsSchema } from '../schemas.ts';

const ref = z.strictObject({ id: z.uuid() });
const filter = z.strictObject({
  state: z
    .string()
    .describe(`States, separated by commas: ${deliveryStates.join(', ')}.`)
    .transform((text) => text.split(','))
    .pipe(z.array(z.enum(deliveryStates)))
    .optional(),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  before: z
    .string()
    .describe('`next` of an earlier page.')
    .regex(/^\d{1,18}$/)
    .optional(),
});
const resolution = z.strictObject({
  outcome: z
    .enum(['sent', 'not-sent', 'resend'])
    .describe(
      '`sent`: it has arrived. `not-sent`: it has not, and shall not. `resend`: it has not, and is sent again.',
    ),
});

const common = { tag: 'deliveries', scope: 'send' } as const;
const one = { 200: { description: 'The delivery as it is now.', schema: deliveryWithEventsSchema } };
const missing = (id: string): MailError =>
  new MailError('DELIVERY_NOT_FOUND', `There is no delivery ${id}.`, { details: { delivery: id } });

/** The sandbox a delivery went through, as its receipt tells; what has none would go through the one there is now. */
function sandboxOf({ receipt, recipients }: Delivery, now: Sandbox | undefined): Sandbox | undefined {
  const [redirectTo] = receipt?.accepted ?? [];
  if (!receipt || redirectTo === undefined) return now;
  const box = now?.redirectTo && addressKey(now.redirectTo.address);
  if (receipt.accepted.length + receipt.rejected.length === 1 && addressKey(redirectTo) === box) return now;
  const reached = [...receipt.accepted, ...receipt.rejected.map(({ address }) => address)].map(addressKey);
  return recipients.every((one) => reached.includes(addressKey(one)))
    ? undefined
    : { redirectTo: { address: redirectTo } };
}

/** Deliveries: what became of every message, and what people decide about those that ended badly. */
export const deliveryRoutes = ({
  deliveries,
  connections,
  scope,
  wake,
  cancel,
}: Pick<FlowpostServer, 'deliveries' | 'connections' | 'scope' | 'wake' | 'cancel'>) => {
  const show = async (id: string) => {
    const delivery = await deliveries.get(id);
    if (!delivery) throw missing(id);
    return { ...delivery, events: await deliveries.events(id) };
  };
  const move = async (
    id: string,
    from: readonly DeliveryState[],
    to: DeliveryState,
    by: string,
    why: string,
  ) => {
    const moved = await deliveries.move(id, from, to, { by, why });
    if (moved) {
      if (to === 'cancelled') cancel(id);
      wake();
      return show(id);
    }
    const { state, error } = await show(id);
    if (to === 'queued' && error?.details?.replaced === true)
      throw new MailError('DELIVERY_STATE_WRONG', 'It was asked for again, and that is another delivery.', {
        ...{ hint: error.hint, details: { state } },
      });
    throw new MailError('DELIVERY_STATE_WRONG', `The delivery is ${state}.`, {
      details: { state, possible: from },
    });
  };
  return [
    route({
      ...common,
      method: 'GET',
      path: '/v1/deliveries',
      operationId: 'listDeliveries',
      summary: 'Deliveries, newest first',
      query: filter,
      answers: {
        200: {
          description: 'A page of them; `next` continues after it.',
          schema: z.strictObject({ deliveries: z.array(deliverySchema), next: z.string().nullable() }),
        },
      },
      handle: ({ query }) =>
        deliveries.list({ states: query.state, before: query.before, limit: query.limit }),
    }),
    route({
      ...common,
      method: 'GET',
      path: '/v1/deliveries/{id}',
      operationId: 'getDelivery',
      summary: 'One delivery: its receipt or error, and everything that happened to it',
      params: ref,
      answers: one,
      handle: ({ params }) => show(params.id),
    }),
    route({
      ...common,
      method: 'GET',
      path: '/v1/deliveries/{id}/message',
      operationId: 'getDeliveryMessage',
      summary:
        'The message of a delivery, composed anew: with attachments as they were taken in, and others as they are now',
      params: ref,
      answers: {
        200: { description: 'The message (RFC 5322).', schema: z.string(), contentType: 'message/rfc822' },
      },
      async handle({ params, reply }) {
        const [delivery, stored] = await Promise.all([
          deliveries.get(params.id),
          deliveries.getMessage(params.id),
        ]);
        if (!delivery || !stored) throw missing(params.id);
        if (stored.sealed === null) throw connectionDeleted();
        const message = parseMessage({ ...stored.request.message, messageId: delivery.messageId });
        const { secretBox, attachments, sandbox } = scope.options;
        const connection = await connections.unseal(stored.sealed);
        const options = { secretBox, attachments };
        const { policy } = stored.request;
        const shown = previewRequest(
          { message, connection, policy },
          { ...options, sandbox: sandboxOf(delivery, sandbox ?? policy.sandbox) },
        );
        const { body } = await shown.catch((error) => {
          // It was sent to nobody, and is shown as it was asked for.
          if (isMailError(error) && error.code === 'RECIPIENT_NOT_ALLOWED')
            return previewMessage(message, connection, options);
          if (!isMailError(error) || error.category !== 'attachment') throw error;
          // Its own hint says that nothing was sent, of which this knows nothing.
          const hint =
            'The message is composed anew for this, and what was attached to it is not there any more.';
          throw new MailError(error.code, error.message, {
            phase: error.phase,
            hint,
            details: error.details,
          });
        });
        return reply.type('message/rfc822').send(body);
      },
    }),
    route({
      ...common,
      method: 'POST',
      path: '/v1/deliveries/{id}/retry',
      operationId: 'retryDelivery',
      summary:
        'Put a delivery that failed or was cancelled back into the outbox, or one that some refused, for those alone',
      params: ref,
      answers: one,
      handle: ({ params, key }) =>
        move(params.id, ['failed', 'cancelled', 'partial'], 'queued', key.id, 'retry'),
    }),
    route({
      ...common,
      method: 'POST',
      path: '/v1/deliveries/{id}/cancel',
      operationId: 'cancelDelivery',
      summary:
        'Take a delivery out of the outbox, until it may be leaving; what some have already stays delivered',
      params: ref,
      answers: one,
      handle: ({ params, key }) => move(params.id, ['queued', 'sending'], 'cancelled', key.id, 'cancel'),
    }),
    route({
      ...common,
      method: 'POST',
      path: '/v1/deliveries/{id}/resolve',
      operationId: 'resolveDelivery',
      summary: 'Say what a delivery in doubt really is',
      params: ref,
      body: resolution,
      answers: one,
      handle: ({ params, body, key }) => {
        const to = ({ sent: 'sent', 'not-sent': 'failed', resend: 'queued' } as const)[body.outcome];
        return move(params.id, ['in-doubt'], to, key.id, body.outcome);
      },
    }),
  ];
};
