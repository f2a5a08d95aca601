import { isPlainObject, MailError, type StoreResult } from '@flowpost/core';
import type { FlowData } from './flow-data.ts';

/** Names that would reach into the prototype of every object. */
const reserved = new Set(['__proto__', 'prototype', 'constructor']);

function keyError(key: string, message: string): MailError {
  return new MailError(
    'RESULT_KEY_INVALID',
    `The result cannot be stored at ${JSON.stringify(key)}: ${message}.`,
    {
      details: { key },
    },
  );
}

function setIn(
  holder: Record<string, unknown>,
  path: readonly string[],
  value: unknown,
  key: string,
): Record<string, unknown> {
  const [name = '', ...rest] = path;
  if (rest.length === 0) return { ...holder, [name]: value };
  const inner = Object.hasOwn(holder, name) ? holder[name] : undefined;
  // A Date or Buffer taken apart would be destroyed.
  if (inner !== undefined && inner !== null && !isPlainObject(inner)) {
    throw keyError(key, `${JSON.stringify(name)} already holds a value that is not an object`);
  }
  return { ...holder, [name]: setIn(inner ?? {}, rest, value, key) };
}

/** @throws MailError `RESULT_KEY_INVALID` for a key that cannot name a place. */
function assertResultKey(key: string): void {
  const path = key.split('.');
  if (path.includes('')) throw keyError(key, 'a part of it is empty');
  const name = path.find((part) => reserved.has(part));
  if (name !== undefined) throw keyError(key, `${JSON.stringify(name)} is a reserved name`);
}

/**
 * The flow's data with a value at a key such as `mail.result`. What stands beside it stays; the data given is not
 * changed.
 *
 * @throws MailError `RESULT_KEY_INVALID` for a key that is empty, reserved, or leads through a value that is not an
 * object.
 */
export function storeResult(flow: FlowData, { target, key }: StoreResult, value: unknown): FlowData {
  assertResultKey(key);
  return { ...flow, [target]: setIn(flow[target], key.split('.'), value, key) };
}
