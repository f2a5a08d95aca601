import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FetchBudget } from './fetch-budget.ts';

beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => vi.useRealTimers());

it('counts all waits together, and nothing in between', () => {
  const budget = new FetchBudget(1_000);
  budget.start();
  vi.advanceTimersByTime(600);
  budget.pause();
  // A reader that takes its time costs the server no deadline.
  vi.advanceTimersByTime(60_000);
  budget.start();
  vi.advanceTimersByTime(399);
  expect(budget.signal.aborted).toBe(false);
  vi.advanceTimersByTime(1);
  expect(budget.signal.aborted).toBe(true);
});

it('starting anew does not give more time', () => {
  const budget = new FetchBudget(1_000);
  for (let wait = 0; wait < 10; wait++) {
    budget.start();
    vi.advanceTimersByTime(100);
  }
  expect(budget.signal.aborted).toBe(true);
});
