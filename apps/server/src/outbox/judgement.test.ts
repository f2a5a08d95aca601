import { MailError } from '@flowpost/core';
import { expect, it } from 'vitest';
import type { ClaimedDelivery } from './delivery.ts';
import { judge } from './judgement.ts';

const doubtAbout = (details: Readonly<Record<string, unknown>> = {}) =>
  new MailError('DELIVERY_IN_DOUBT', 'lost', { phase: 'confirm', details });
/** A delivery that is to be sent again when it is in doubt. */
const claimOf = (more: Partial<ClaimedDelivery>) =>
  ({
    ...{ id: '1', attempt: 2, tries: 2, nodeType: 'send-email', triedSince: Date.now(), ...more },
    request: { policy: { onDoubt: 'resend' } },
  }) as unknown as ClaimedDelivery;

it('what would be sent again stays in doubt when its time is over', () => {
  const settlement = judge(claimOf({ triedSince: 0 }), doubtAbout(), {
    keepsTrying: true,
    retryForMs: 1_000,
  });
  expect(settlement).toMatchObject({ state: 'in-doubt', error: { inDoubt: true } });
});

it('a second doubt about fewer leaves the others in doubt', () => {
  const doubt = doubtAbout({ unconfirmed: ['a@y.org', 'b@y.org'] }).toJSON();
  const rejected = [{ address: 'a@y.org', code: 550, reply: '550 no' }];
  const again = doubtAbout({ unconfirmed: ['b@y.org'], rejected });
  const settlement = judge(claimOf({ doubt }), again, { keepsTrying: true, retryForMs: 86_400_000 });
  expect(settlement.error?.details).toMatchObject({ unconfirmed: ['a@y.org', 'b@y.org'] });
});

it('what our own database could not do counts for nothing, and a key that is missing is looked for more seldom', () => {
  const at = (attempt: number, details: Readonly<Record<string, unknown>> = {}) => {
    const claim = { id: 'x', attempt, tries: attempt, triedSince: Date.now(), nodeType: 'send-email' };
    const error = new MailError('STORAGE_UNAVAILABLE', 'x', { retryable: true, details });
    const given = { ...claim, request: { policy: {} } } as unknown as ClaimedDelivery;
    const settlement = judge(given, error, { keepsTrying: true, retryForMs: 1e9 });
    expect(settlement).toMatchObject({ state: 'queued', uncounted: true });
    return Math.round(((settlement.nextAt ?? 0) - Date.now()) / 1_000);
  };
  expect(at(9)).toBeLessThanOrEqual(6);
  const missing = { reason: 'SECRET_KEY_MISSING' };
  expect(at(1, missing)).toBeLessThanOrEqual(6);
  // Four times an hour, and not as seldom as a server that is down.
  for (const attempt of [5, 9]) expect(at(attempt, missing) / 60).toBeCloseTo(15, -1);
});
