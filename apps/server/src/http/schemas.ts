import { z } from 'zod';
import { deliveryStates } from '../outbox/delivery.ts';
import { scopes } from '../security/api-keys.ts';

const time = z.string().meta({ format: 'date-time' });

const receiptSchema = z
  .looseObject({
    status: z.enum(['sent', 'partial', 'duplicate', 'queued']),
    messageId: z.string(),
    accepted: z.array(z.string()),
    rejected: z.array(z.looseObject({ address: z.string(), code: z.number().int(), reply: z.string() })),
    response: z.string(),
    notifications: z.enum(['requested', 'not-offered']).optional(),
    attempts: z.number().int(),
    sizeBytes: z.number().int(),
  })
  .meta({ id: 'Receipt' });

const errorSchema = z
  .looseObject({
    code: z.string(),
    category: z.string(),
    phase: z.string(),
    retryable: z.boolean(),
    inDoubt: z.boolean(),
    hint: z.string(),
    message: z.string(),
  })
  .meta({ id: 'Error' });

const flowSchema = z
  .looseObject({
    input: z.record(z.string(), z.unknown()),
    context: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'Flow' });

export const runBodySchema = z.strictObject({
  settings: z
    .record(z.string(), z.unknown())
    .describe('The settings of the node. For send-email, "connection": "@NAME" is a stored connection.'),
  flow: z
    .record(z.string(), z.unknown())
    .nullish()
    .describe('The data of the flow: input, context, variables, trigger.'),
  nodeId: z
    .string()
    .min(1)
    .max(200)
    .nullish()
    .describe('Names the node in its flow, for the duplicate guard. Without it all nodes of a type are one.'),
});

export const runAnswerSchema = z
  .strictObject({
    deliveryId: z.uuid().optional(),
    outcome: z.looseObject({
      kind: z.enum(['continue', 'halt']),
      receipt: receiptSchema.optional(),
      error: errorSchema.optional(),
    }),
    flow: flowSchema,
  })
  .meta({ id: 'RunAnswer' });

export const previewBodySchema = runBodySchema.extend({ node: z.string() });

export const connectionBodySchema = z.strictObject({
  name: z
    .string()
    .regex(/^[\w.-]{1,64}$/, 'letters, digits, dots, dashes and underscores, at most 64')
    // It would be looked for as the id of a connection.
    .regex(
      /^(?![0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$)/,
      'a name that does not look like an id',
    ),
  connection: z
    .union([z.string().min(1), z.record(z.string(), z.unknown())])
    .describe('A connection URL, or the fields one by one. Nothing of it can be read back.'),
});

export const connectionSchema = z
  .strictObject({
    id: z.uuid(),
    name: z.string(),
    kind: z.string(),
    host: z.string().nullable(),
    expires: z.array(z.strictObject({ what: z.string(), at: time })),
    warnings: z.array(z.string()),
    createdAt: time,
    updatedAt: time,
  })
  .meta({ id: 'Connection' });

export const verifySchema = z
  .looseObject({
    ok: z.boolean(),
    steps: z.array(
      z.looseObject({ step: z.string(), status: z.enum(['ok', 'failed', 'skipped']), message: z.string() }),
    ),
  })
  .meta({ id: 'VerifyReport' });

export const deliverySchema = z
  .strictObject({
    id: z.uuid(),
    state: z.enum(deliveryStates),
    mode: z.enum(['sync', 'async']),
    nodeType: z.string(),
    nodeId: z.string(),
    messageId: z.string(),
    recipients: z.array(z.string()),
    subject: z.string(),
    connectionId: z.uuid().nullable(),
    attempt: z.number().int(),
    nextAt: time.nullable(),
    store: z.looseObject({ target: z.string(), key: z.string() }).nullable(),
    receipt: receiptSchema.nullable(),
    error: errorSchema.nullable(),
    createdAt: time,
    updatedAt: time,
  })
  .meta({ id: 'Delivery' });

export const deliveryWithEventsSchema = z
  .looseObject({
    ...deliverySchema.shape,
    events: z.array(z.strictObject({ state: z.string(), at: time, detail: z.unknown() })),
  })
  .meta({ id: 'DeliveryWithEvents' });

export const apiKeySchema = z
  .strictObject({ id: z.string(), name: z.string(), scopes: z.array(z.enum(scopes)), createdAt: time })
  .meta({ id: 'ApiKey' });

export const problemSchema = z
  .looseObject({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    instance: z.string(),
    code: z.string(),
    retryable: z.boolean(),
    inDoubt: z.boolean(),
    hint: z.string(),
  })
  .meta({ id: 'Problem' });
