import { MailError } from '@flowpost/core';
import { expect, it } from 'vitest';
import type { ClaimedDelivery } from './delivery.ts';
import { judge } from './judgement.ts';

it('a delivery whose key is elsewhere is looked at several times an hour, however often it was claimed', () => {
  const now = Date.now();
  const claim = {
    id: '1',
    attempt: 40,
    tries: 1,
    triedSince: now,
    request: { policy: {} },
  } as ClaimedDelivery;
  const error = new MailError('STORAGE_UNAVAILABLE', 'no key', {
    retryable: true,
    details: { reason: 'SECRET_KEY_MISSING' },
  });
  const { state, nextAt = 0 } = judge(claim, error, { keepsTrying: true, retryForMs: 86_400_000 });
  expect(state).toBe('queued');
  expect((nextAt - now) / 60_000).toBeGreaterThan(10);
  expect((nextAt - now) / 60_000).toBeLessThan(20);
});
