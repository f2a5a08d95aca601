import { emailMessageSchema, type OutgoingMessage } from '@flowpost/core';

/** Messages of classes may have their fields as getters, which belong to the class. */
const fields = Object.keys(emailMessageSchema.shape) as (keyof OutgoingMessage)[];

/** Nothing of a message lies deeper; what does is refused by whoever reads it. */
const deepest = 5;

/** Lists and plain objects anew; bytes, streams and dates are what they are. */
function copy(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || depth > deepest) return value;
  if (Array.isArray(value)) return value.map((one) => copy(one, depth + 1));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, copy(one, depth + 1)]));
}

/** A message as it is when it is handed over: whoever gave it may use it for the next one meanwhile. */
export function asGiven(message: OutgoingMessage): OutgoingMessage {
  if (typeof message !== 'object' || message === null || Object.isFrozen(message)) return message;
  const copied: Record<string, unknown> = { ...message };
  const isPlain = Object.getPrototypeOf(message) === Object.prototype;
  if (!isPlain) for (const field of fields) if (field in message) copied[field] = message[field];
  for (const field in copied) {
    const value = copied[field];
    if (typeof value === 'object') copied[field] = copy(value);
  }
  return copied as unknown as OutgoingMessage;
}
