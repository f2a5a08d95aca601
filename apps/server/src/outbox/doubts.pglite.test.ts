import { randomUUID } from 'node:crypto';
import { MailError, type SendReceipt } from '@flowpost/core';
import { expect, it } from 'vitest';
import { openOutbox } from '../testing/outbox-parts.test-support.ts';
import type { ClaimedDelivery, Settlement } from './delivery.ts';
import { judge, settlementOf } from './judgement.ts';

const everybody = ['a@y.org', 'b@y.org', 'c@y.org'];
const circumstances = { keepsTrying: true, retryForMs: 86_400_000 };
const doubtAbout = (details: Record<string, unknown> = {}) =>
  new MailError('DELIVERY_IN_DOUBT', 'lost', { phase: 'confirm', details });
const cut = new MailError('MESSAGE_REFUSED', 'cut').toJSON();

const receiptOf = (accepted: string[], refused: Record<string, number>): SendReceipt => ({
  ...{ status: 'partial', messageId: '<1@x.org>', accepted, response: '250 ok', attempts: 1, sizeBytes: 1 },
  timings: { composeMs: 0, sessionMs: 0, deliverMs: 0, totalMs: 0 },
  rejected: Object.entries(refused).map(([address, code]) => ({ address, code, reply: `${code} no` })),
});

async function delivery(onDoubt: 'hold' | 'resend') {
  const parts = await openOutbox();
  const [id = ''] = await parts.put('a', 1, { policy: { onDoubt } });
  await parts.database.query('update flowpost.deliveries set recipients = $1', [everybody]);
  return Object.assign(parts, {
    id,
    claim: async () => (await parts.deliveries.claim(parts.worker, 1))[0] as ClaimedDelivery,
    settle: (settlement: Settlement) =>
      parts.deliveries.settle(
        [{ ...settlement, ...(settlement.nextAt !== undefined && { nextAt: Date.now() - 1_000 }) }],
        parts.worker,
      ),
    crash: async (claim: ClaimedDelivery) => {
      await parts.deliveries.commit([claim], parts.worker);
      await parts.deliveries.recover([parts.worker], cut, doubtAbout().toJSON());
    },
  });
}

it('a crash adds to a doubt whom the message was leaving for', async () => {
  await using parts = await delivery('resend');
  await parts.settle(judge(await parts.claim(), doubtAbout({ unconfirmed: everybody }), circumstances));
  const receipt = receiptOf(['b@y.org'], { 'a@y.org': 550, 'c@y.org': 451 });
  await parts.settle(settlementOf(await parts.claim(), receipt, circumstances));
  await parts.crash(await parts.claim());
  await parts.deliveries.move(parts.id, ['queued'], 'cancelled');
  await parts.deliveries.move(parts.id, ['in-doubt'], 'sent');
  const ended = await parts.deliveries.get(parts.id);
  expect(ended).toMatchObject({ state: 'sent', receipt: { rejected: [] } });
  expect(ended?.receipt?.accepted.toSorted()).toEqual(everybody);
});

it('a crash names who gets the mail of a sandbox, and nobody it was meant for', async () => {
  await using parts = await delivery('hold');
  const { database, deliveries: store } = parts;
  const doubtOf = async (redirectTo: string | undefined, policy: object) => {
    const worker = randomUUID();
    await database.query('insert into flowpost.workers (id, redirect_to) values ($1, $2)', [
      worker,
      redirectTo,
    ]);
    const [id = ''] = await parts.put('b', 1, { policy });
    const [claim] = await store.claim(worker, 10).then((all) => all.filter((one) => one.id === id));
    await store.commit([claim as ClaimedDelivery], worker);
    await store.recover([worker], cut, doubtAbout().toJSON());
    expect((await store.get(id))?.error?.details).toMatchObject({ unconfirmed: [expect.anything()] });
    await store.move(id, ['in-doubt'], 'sent');
    return (await store.get(id))?.receipt?.accepted;
  };
  const sandbox = { redirectTo: { address: 'box@y.org' } };
  expect(await doubtOf(undefined, { sandbox })).toEqual(['box@y.org']);
  expect(await doubtOf('server@y.org', { sandbox })).toEqual(['server@y.org']);
  expect(await doubtOf(undefined, {})).toEqual(['b@x.org']);
});

it('a crash says nothing of those who were refused before', async () => {
  await using parts = await delivery('resend');
  const first = receiptOf(['a@y.org'], { 'b@y.org': 550, 'c@y.org': 451 });
  await parts.settle(settlementOf(await parts.claim(), first, circumstances));
  await parts.crash(await parts.claim());
  const claim = await parts.claim();
  expect(claim).toMatchObject({
    again: { to: ['c@y.org'] },
    doubt: { details: { unconfirmed: ['c@y.org'] } },
  });
  const all = receiptOf(['a@y.org', 'c@y.org'], { 'b@y.org': 550 });
  const { state, error } = settlementOf(claim, all, circumstances);
  expect([state, error]).toEqual(['partial', undefined]);
});

it('what a process that was taken for dead says of who has it counts, whatever else is in doubt', async () => {
  await using parts = await delivery('resend');
  await parts.settle(judge(await parts.claim(), doubtAbout({ unconfirmed: everybody }), circumstances));
  const claim = await parts.claim();
  await parts.crash(claim);
  const receipt = receiptOf(['a@y.org', 'c@y.org'], { 'b@y.org': 451 });
  await parts.settle(settlementOf(claim, receipt, circumstances));
  expect(await parts.deliveries.get(parts.id)).toMatchObject({
    ...{ state: 'queued', receipt: { accepted: ['a@y.org', 'c@y.org'] } },
    error: { inDoubt: true, details: { unconfirmed: ['b@y.org'] } },
  });
  expect(await parts.claim()).toMatchObject({ again: { to: ['b@y.org'] } });
});

it('a doubt of an older version, which names the refused alone, is about the others', async () => {
  await using parts = await delivery('hold');
  const claim = await parts.claim();
  await parts.deliveries.commit([claim], parts.worker);
  const rejected = [{ address: 'b@y.org', code: 550, reply: '550 no' }];
  await parts.settle({
    id: parts.id,
    attempt: 1,
    state: 'in-doubt',
    error: doubtAbout({ rejected }).toJSON(),
  });
  await parts.deliveries.move(parts.id, ['in-doubt'], 'sent');
  expect(await parts.deliveries.get(parts.id)).toMatchObject({
    receipt: { status: 'partial', accepted: ['a@y.org', 'c@y.org'], rejected },
  });
});
