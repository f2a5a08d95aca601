import { EncryptedText, type SendPolicy, sendPolicySchema } from '@flowpost/core';
import { z } from 'zod';

/** A setting that may be left out. Forms hand over empty text, or null, for a field left empty. */
export function leftEmpty<Schema extends z.ZodType>(
  schema: Schema,
): z.ZodOptional<z.ZodType<z.output<Schema>, z.input<Schema> | '' | null>> {
  const missing = (value: unknown): unknown => (value === '' || value === null ? undefined : value);
  // A preprocessed schema takes anything, as far as its type knows.
  return z.preprocess(missing, schema.optional()).optional() as never;
}

/** Text, or encrypted text. */
export const encryptable = z.union([z.string().min(1, 'it is empty'), z.instanceof(EncryptedText)]);

/**
 * The policy of a step that belongs to another platform: what it does not promise is off, so that flows made for it behave as
 * they do there.
 */
export function platformPolicy(policy: z.input<typeof sendPolicySchema>): SendPolicy {
  return sendPolicySchema.parse({ retry: { attempts: 1 }, loopGuard: false, ...policy });
}
