import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { anySignal, linkAbort } from './cancellation.ts';

/** Collects what nobody has. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

it('a time limit among several signals comes, although nobody else has it', async () => {
  const caller = new AbortController();
  const signals = Array.from({ length: 50 }, () =>
    anySignal(anySignal(caller.signal, AbortSignal.timeout(200)), new AbortController().signal),
  );
  let ended = 0;
  const end = (): number => ended++;
  for (const signal of signals) {
    // As between two attempts, when nobody listens.
    signal.addEventListener('abort', end);
    signal.removeEventListener('abort', end);
  }
  for (let time = 0; time < 3; time++) {
    collectGarbage();
    await delay(10);
  }
  for (const signal of signals) signal.addEventListener('abort', end, { once: true });
  await expect.poll(() => ended).toBe(signals.length);
  expect(signals.every(({ reason }) => reason.name === 'TimeoutError')).toBe(true);
});

it('several signals are as many as there are', () => {
  const [one, other] = [new AbortController(), new AbortController()];
  expect(anySignal(undefined, one.signal)).toBe(one.signal);
  const both = anySignal(one.signal, undefined, other.signal);
  other.abort('why');
  expect([both.aborted, both.reason]).toEqual([true, 'why']);
  expect(anySignal().aborted).toBe(false);
});

it('a signal that is not of this Node ends what is linked to it', () => {
  let abort = (): void => undefined;
  const foreign = {
    aborted: false,
    reason: 'why',
    addEventListener: (_: string, end: () => void) => (abort = end),
  };
  const ending = new AbortController();
  linkAbort(foreign as unknown as AbortSignal, ending);
  abort();
  expect([ending.signal.aborted, ending.signal.reason]).toEqual([true, 'why']);
});
