import { emailMessageSchema, isCheckedMessage, isPlainObject, type OutgoingMessage } from '@flowpost/core';

/** Messages of classes may have their fields as getters, which belong to the class. */
const fields = Object.keys(emailMessageSchema.shape) as (keyof OutgoingMessage)[];

/** Lists and plain objects anew, each once; bytes, streams and dates are what they are. */
function copy(value: unknown, copies: Map<object, unknown>): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const known = copies.get(value);
  if (known) return known;
  if (Array.isArray(value)) {
    const list: unknown[] = [];
    copies.set(value, list);
    for (const one of value) list.push(copy(one, copies));
    return list;
  }
  if (!isPlainObject(value)) return value;
  const copied: Record<string, unknown> = {};
  copies.set(value, copied);
  for (const [name, one] of Object.entries(value))
    Object.defineProperty(copied, name, {
      ...{ value: copy(one, copies), enumerable: true, configurable: true, writable: true },
    });
  return copied;
}

/** A message as it is when it is handed over: whoever gave it may use it for the next one meanwhile. */
export function asGiven(message: OutgoingMessage): OutgoingMessage {
  if (typeof message !== 'object' || message === null || isCheckedMessage(message)) return message;
  const copied: Record<string, unknown> = { ...message };
  if (!isPlainObject(message))
    for (const field of fields) if (field in message) copied[field] = message[field];
  const copies = new Map<object, unknown>();
  for (const field in copied) {
    const value = copied[field];
    if (typeof value === 'object' && value !== null) copied[field] = copy(value, copies);
  }
  return copied as unknown as OutgoingMessage;
}
