import type { SendReceipt } from '@flowpost/core';
import { expect, it } from 'vitest';
import { InFlight } from './in-flight.ts';

it('whoever closes may say only then how long there is', async () => {
  let leftMs = 1_000_000;
  const inFlight = new InFlight(() => leftMs);
  const send = inFlight.run({}, (signal) => {
    const { promise, reject } = Promise.withResolvers<SendReceipt>();
    signal.addEventListener('abort', () => reject(signal.reason));
    return promise;
  });
  leftMs = 0;
  await Promise.all([expect(send).rejects.toThrow('the sender was closed'), inFlight.close()]);
});
