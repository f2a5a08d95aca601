import { FaultServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import {
  later,
  never,
  ownServer,
  startNarrow,
  startRefusing,
  startTurns,
} from './testing/partial-mail.test-support.ts';

const { flowpost, put, run, get, decide, waits } = ownServer();

it('a doubt in a later message does not forget whom it was confirmed for', async ({ expect }) => {
  const full = '452 4.5.3 Too many recipients';
  const first = { refusals: { 'b@y.org': full, 'c@y.org': full, 'd@y.org': full } };
  await using server = await startTurns([first, { lost: true }], 'lmtp');
  const id = await run(server.url, { to: ['a@y.org', 'b@y.org', 'c@y.org', 'd@y.org'] });
  expect(await decide(id, 'resolve', { outcome: 'sent' })).toMatchObject({
    receipt: { accepted: ['a@y.org', 'b@y.org', 'd@y.org'], rejected: [{ address: 'c@y.org', code: 550 }] },
  });
});

it('nobody is both said to have it and refused, and whoever may have it is asked again when a person says so', async ({
  expect,
}) => {
  const later = { refusals: { 'b@y.org': '451 4.7.1 later' } };
  await using twice = await startTurns([{ ...later, lost: true }, { lost: true }]);
  const retry = { attempts: 2, firstDelayMs: 1 };
  const both = await run(twice.url, { to: ['a@y.org', 'b@y.org'], onDoubt: 'resend', retry });
  expect(await decide(both, 'resolve', { outcome: 'sent' })).toMatchObject({
    ...{ state: 'sent', receipt: { accepted: ['a@y.org', 'b@y.org'], rejected: [] } },
  });

  const refusals = { 'a@y.org': '550 5.1.1 no', 'c@y.org': '451 4.7.1 later' };
  await using server = await startTurns([{ lost: true }, { refusals }]);
  const id = await put(server.url, { onDoubt: 'resend' });
  const waiting = {
    state: 'queued',
    receipt: { accepted: ['b@y.org'] },
    error: { details: { unconfirmed: ['a@y.org', 'c@y.org'] } },
  };
  await expect.poll(() => get(id)).toMatchObject(waiting);
  await decide(id, 'cancel');
  await decide(id, 'resolve', { outcome: 'resend' });
  await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { accepted: { length: 3 } } });
  expect(server.got).toEqual(['a@y.org,b@y.org,c@y.org', 'b@y.org', 'a@y.org,c@y.org']);
});

it('a message that everybody has an answer for is sent, whatever was in doubt in between', async () => {
  await using server = await startTurns([{ lost: '' }, { lost: '250 ok\r\n' }, {}], 'lmtp');
  const more = { to: ['a@y.org', 'b@y.org'], onDoubt: 'resend', retry: { attempts: 3, firstDelayMs: 1 } };
  const settings = { connection: server.url, from: 'a@x.org', subject: 'Hi', text: 'x', ...more };
  const { body } = await flowpost().client.post('/v1/nodes/send-email/runs', { settings });
  expect(body.outcome.receipt).toMatchObject({ status: 'sent', accepted: ['a@y.org', 'b@y.org'] });
  expect(server.got).toEqual(['a@y.org,b@y.org', 'a@y.org,b@y.org', 'b@y.org']);
});

it('when a person has it sent again and that is in doubt, it is about those who were asked', async ({
  expect,
}) => {
  await using server = await startTurns([
    { refusals: { 'b@y.org': '550 5.1.1 no', 'c@y.org': '550 5.1.1 no' } },
    { refusals: { 'c@y.org': '451 4.7.1 later' }, lost: true },
  ]);
  const id = await put(server.url);
  await expect.poll(() => get(id)).toMatchObject({ state: 'partial' });
  await decide(id, 'retry');
  await expect
    .poll(() => get(id))
    .toMatchObject({ state: 'in-doubt', error: { details: { unconfirmed: ['b@y.org'] } } });
  await decide(id, 'resolve', { outcome: 'resend' });
  await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { accepted: { length: 3 } } });
  expect(server.got).toEqual(['a@y.org', 'b@y.org', 'b@y.org,c@y.org']);
});

it('several doubts of one run are about all whom no receipt names', async ({ expect }) => {
  const full = '452 4.5.3 Too many recipients';
  const later = { refusals: { 'b@y.org': '451 4.7.1 later', 'c@y.org': '451 4.7.1 later' } };
  await using server = await startTurns([
    { refusals: { 'b@y.org': full, 'c@y.org': full }, lost: true },
    { refusals: { 'b@y.org': full, 'c@y.org': full } },
    { refusals: { 'c@y.org': full }, lost: true },
    ...[later, later, later],
  ]);
  const retry = { attempts: 4, firstDelayMs: 1 };
  const id = await run(server.url, { to: ['a@y.org', 'b@y.org', 'c@y.org'], onDoubt: 'resend', retry });
  expect(await decide(id, 'resolve', { outcome: 'sent' })).toMatchObject({
    receipt: { accepted: ['a@y.org', 'b@y.org'], rejected: [{ address: 'c@y.org' }] },
  });
});

it('when somebody waited and the second of several messages is in doubt, what the first delivered is known', async ({
  expect,
}) => {
  const to = ['a@y.org', 'b@y.org', 'c@y.org'];
  const settings = { from: 'a@x.org', to, subject: 'Hi', text: 'x' };
  for (const outcome of ['sent', 'not-sent']) {
    await using server = await startNarrow(2);
    await flowpost().client.post('/v1/nodes/send-email/runs', {
      settings: { ...settings, connection: server.url },
    });
    const { body } = await flowpost().client.get('/v1/deliveries?state=in-doubt');
    const id = body.deliveries[0].id;
    const receipt = { accepted: ['a@y.org'], rejected: [{ address: 'b@y.org' }, { address: 'c@y.org' }] };
    expect(await get(id)).toMatchObject({ receipt });
    const resolved = await decide(id, 'resolve', { outcome });
    if (outcome === 'sent') {
      expect(resolved.receipt).toMatchObject({
        accepted: ['a@y.org', 'b@y.org'],
        rejected: [{ address: 'c@y.org' }],
      });
      continue;
    }
    expect(resolved).toMatchObject({ state: 'partial', receipt });
    await decide(id, 'retry');
    await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { accepted: { length: 3 } } });
    expect(server.got).toEqual(['a@y.org', 'b@y.org', 'b@y.org', 'c@y.org']);
  }
});

it('a step that is run again while it is in doubt says so at once, until somebody says what it was', async () => {
  await using cut = await FaultServer.start({ stage: 'dot', fault: 'fin', times: 1 });
  const credentials = { host: '127.0.0.1', port: cut.port, fromEmail: 'a@x.org' };
  const settings = { credentials, to: 'b@y.org', subject: 'again', message: 'x' };
  const again = async () => (await flowpost().client.post('/v1/nodes/diaflow.smtp/runs', { settings })).body;
  expect(await again()).toMatchObject({ code: 'DELIVERY_IN_DOUBT', inDoubt: true });
  const { body } = await flowpost().client.get('/v1/deliveries?state=in-doubt');
  const first = body.deliveries[0]?.id;
  const twin = await again();
  expect(twin).toMatchObject({ code: 'DUPLICATE_IN_DOUBT', inDoubt: true, retryable: false });
  expect(twin.details.earlier).toMatchObject({ delivery: first, unconfirmed: ['b@y.org'] });
  // Of it nothing was sent, so nobody has to find out about it.
  expect((await flowpost().client.get('/v1/deliveries?state=in-doubt')).body.deliveries).toHaveLength(1);
  expect(await get(twin.deliveryId)).toMatchObject({
    state: 'failed',
    receipt: null,
    error: { inDoubt: false },
  });
  await decide(first, 'resolve', { outcome: 'not-sent' });
  expect(await again()).toMatchObject({ outcome: { receipt: { status: 'sent' } } });
  expect(cut.messages).toHaveLength(2);
});

it('a run again while some are in doubt sends nothing to who has it, whatever becomes of both', async () => {
  await using server = await startTurns([{ lost: '250 ok\r\n' }], 'lmtp');
  const more = { to: ['a@y.org', 'b@y.org'], duplicateWindowMs: 60_000 };
  const settings = { connection: server.url, from: 'a@x.org', subject: 'Hi', text: 'x', ...more };
  const again = async () => (await flowpost().client.post('/v1/nodes/send-email/runs', { settings })).body;
  const [first, twin] = [await again(), await again()];
  expect(twin).toMatchObject({ code: 'DUPLICATE_IN_DOUBT' });
  expect(await decide(first.deliveryId, 'resolve', { outcome: 'sent' })).toMatchObject({ state: 'sent' });
  await decide(twin.deliveryId, 'retry');
  await expect
    .poll(() => get(twin.deliveryId))
    .toMatchObject({ state: 'sent', receipt: { status: 'duplicate' } });
  expect(server.got).toEqual(['a@y.org,b@y.org']);
});

describe.concurrent('in doubt', () => {
  it('whoever may have it stays in doubt until somebody says that he has', async ({ expect }) => {
    await using server = await startNarrow(1, new Map([['b@y.org', never]]));
    const id = await put(server.url, { to: ['a@y.org', 'b@y.org'], onDoubt: 'resend' });
    await expect
      .poll(() => get(id))
      .toMatchObject({
        state: 'in-doubt',
        error: { inDoubt: true, details: { unconfirmed: ['b@y.org'] } },
        receipt: { accepted: ['a@y.org'], rejected: [{ address: 'b@y.org', code: 550 }] },
      });
    expect(await decide(id, 'resolve', { outcome: 'sent' })).toMatchObject({
      state: 'sent',
      receipt: { accepted: ['a@y.org', 'b@y.org'], rejected: [] },
    });
  });

  it('who decides about a delivery in doubt decides for those alone who may not have it', async ({
    expect,
  }) => {
    const refusals = new Map([['b@y.org', later]]);
    await using inbox = await startRefusing(refusals);
    await using cut = await FaultServer.start({ stage: 'dot', fault: 'fin' });
    const resolved: Record<string, object> = {};
    for (const outcome of ['sent', 'not-sent']) {
      await flowpost().client.post('/v1/connections', { name: outcome, connection: inbox.url });
      const id = await put(`@${outcome}`);
      await waits(expect, id);
      await flowpost().client.call('PATCH', `/v1/connections/${outcome}`, {
        connection: `smtp://127.0.0.1:${cut.port}`,
      });
      await expect.poll(() => get(id)).toMatchObject({ state: 'in-doubt', error: { inDoubt: true } });
      resolved[outcome] = await decide(id, 'resolve', { outcome });
    }
    expect(resolved.sent).toMatchObject({
      ...{ state: 'sent', error: null },
      receipt: { status: 'sent', accepted: ['a@y.org', 'c@y.org', 'b@y.org'], rejected: [] },
    });
    expect(resolved['not-sent']).toMatchObject({
      ...{ state: 'partial', error: { inDoubt: false } },
      receipt: { accepted: ['a@y.org', 'c@y.org'], rejected: [{ address: 'b@y.org' }] },
    });
  });

  it('what may have been delivered stays in doubt when it fails after that, and is not cancelled', async ({
    expect,
  }) => {
    let refused = false;
    await using inbox = await SmtpInbox.start({ refuse: { mailFrom: () => (refused ? never : undefined) } });
    await using cut = await FaultServer.start({ stage: 'dot', fault: 'fin' });
    const more = { to: 'a@y.org', onDoubt: 'resend', duplicateWindowMs: 60_000 };
    for (const end of ['refused', 'cancelled']) {
      await flowpost().client.post('/v1/connections', {
        name: end,
        connection: `smtp://127.0.0.1:${cut.port}`,
      });
      const id = await put(`@${end}`, more);
      await expect.poll(() => get(id)).toMatchObject({ state: 'queued', error: { inDoubt: true } });
      refused = true;
      if (end === 'cancelled') await decide(id, 'cancel');
      else await flowpost().client.call('PATCH', `/v1/connections/${end}`, { connection: inbox.url });
      await expect.poll(() => get(id)).toMatchObject({ state: 'in-doubt', error: { inDoubt: true } });
      const { error } = await get(id);
      expect(error.details.lastFailure?.code).toBe(end === 'refused' ? 'SENDER_REFUSED' : undefined);
      // Its twin waits for somebody to say what it was.
      const twin = await put(`@${end}`, more);
      await expect.poll(() => get(twin)).toMatchObject({ error: { code: 'DUPLICATE_PENDING' } });
      expect(await decide(id, 'resolve', { outcome: 'not-sent' })).toMatchObject({
        ...{ state: 'failed', error: { inDoubt: false } },
      });
      refused = false;
    }
  });
});
