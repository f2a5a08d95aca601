import { expect, it } from 'vitest';
import { triggerOf } from './send-fields.ts';

it.each([
  [{ header: { a: 1 } }, undefined],
  [{ header: new Map([['stamp', '1']]) }, undefined],
  [{ header: { 'return-path': '<>' } }, { kind: 'email', from: '', headers: { 'return-path': '<>' } }],
  [
    { from: 'a@x.org', header: { x: 'y' } },
    { kind: 'email', from: 'a@x.org', headers: { x: 'y' } },
  ],
])('%j begins with the mail %j', (message, trigger) => {
  expect(triggerOf(message)).toEqual(trigger);
});
