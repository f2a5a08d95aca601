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
