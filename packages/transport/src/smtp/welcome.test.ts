import { MailError, ManualClock } from '@flowpost/core';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Welcome } from './welcome.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const tooMany = () =>
  new MailError('GREETING_DEFERRED', '421 too many', { details: { diagnosis: 'session.too-many' } });
const lockedOut = () => new MailError('AUTH_DEFERRED', '454 later', { details: { retryAfterMs: 600_000 } });
const alone = { others: 0, opening: 0 };
const besideOne = { others: 1, opening: 0 };

function setUp() {
  const clock = new ManualClock(1);
  let ends = 0;
  const welcome = new Welcome(clock, () => {
    ends++;
  });
  const advance = (ms: number): void => {
    clock.advance(ms);
    vi.advanceTimersByTime(ms);
  };
  return { welcome, advance, ends: () => ends };
}

it('logins that have to wait do so, whatever was said of sessions before', () => {
  const { welcome, advance } = setUp();
  welcome.heed(tooMany(), besideOne);
  expect(() => welcome.assert(besideOne)).toThrow('421');
  expect(() => welcome.assert(alone)).not.toThrow();
  welcome.heed(lockedOut(), alone);
  expect(() => welcome.assert(alone)).toThrow('454');
  // The end of the wait before is not that of this one.
  advance(10_000);
  expect(() => welcome.assert(alone)).toThrow(
    expect.objectContaining({ details: expect.objectContaining({ retryAfterMs: 590_000 }) }),
  );
  welcome.heed(tooMany(), alone);
  expect(() => welcome.assert(alone)).toThrow('454');
  advance(590_000);
  expect(() => welcome.assert(alone)).not.toThrow();
});

it('what was set aside for a server that takes fewer sessions is there again after each wait', () => {
  const { welcome, advance, ends } = setUp();
  welcome.heed(tooMany(), besideOne);
  // None is left, so there is nothing to wait for.
  welcome.heed(tooMany(), alone);
  expect(welcome.isOver).toBe(false);
  advance(10_000);
  expect(ends()).toBe(1);
});

it('a server is asked when no session is open, and when there are fewer than it takes', () => {
  const { welcome } = setUp();
  welcome.heed(tooMany(), { others: 1, opening: 1 });
  expect(() => welcome.assert(alone)).not.toThrow();
  expect(() => welcome.assert(besideOne)).toThrow('421');
  welcome.opened({ others: 2, opening: 0 });
  expect(() => welcome.assert({ others: 2, opening: 0 })).not.toThrow();
});

it('no session makes room for one that may not be opened', () => {
  const { welcome } = setUp();
  welcome.heed(lockedOut(), besideOne);
  expect(welcome.isFull(besideOne)).toBe(false);
});
