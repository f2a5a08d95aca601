import { SmtpInbox } from '@flowpost/testing';
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

it('who is more than a server takes in one message is no reason to wait', async ({ expect }) => {
  await using inbox = await SmtpInbox.start({ recipientsPerMessage: 1 });
  const id = await put(inbox.url, { to: ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `${name}@y.org`) });
  // The first waits between attempts would be a minute together.
  await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { attempts: 1, rejected: [] } });
  expect(inbox.messages.map(({ envelope }) => envelope.to.length)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(await (await fetch(`${flowpost().url}/metrics`)).text()).not.toContain('RECIPIENTS_DEFERRED');
});

it('a twin of what still has a rest is a twin, and nobody gets it from both', async ({ expect }) => {
  let goOn: () => void = () => undefined;
  const held = new Promise<undefined>((resolve) => {
    goOn = () => resolve(undefined);
  });
  let messages = 0;
  await using inbox = await SmtpInbox.start({
    recipientsPerMessage: 1,
    refuse: { message: () => (++messages === 2 ? held : undefined) },
  });
  const more = { to: ['a@y.org', 'b@y.org', 'c@y.org'], duplicateWindowMs: 60_000 };
  const id = await put(inbox.url, more);
  await expect.poll(() => messages).toBe(2);
  const twin = await put(inbox.url, more);
  const ended = { state: 'sent', receipt: { status: 'duplicate', accepted: ['a@y.org'] } };
  await expect.poll(() => get(twin)).toMatchObject(ended);
  goOn();
  await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { accepted: { length: 3 } } });
  expect(inbox.messages.flatMap(({ envelope }) => envelope.to).sort()).toEqual(more.to);
});

it('who was refused is not said to have it, however he is written, and who had an answer is not in doubt', async ({
  expect,
}) => {
  await using server = await startTurns([
    { refusals: { 'b@xn--bcher-kva.example': '550 5.1.1 no' }, lost: true },
  ]);
  const id = await run(server.url, { to: ['a@Y.org', 'b@bücher.example'], cc: 'a@y.org' });
  const resolved = await decide(id, 'resolve', { outcome: 'sent' });
  expect(resolved.receipt.accepted).toEqual(['a@Y.org']);
  expect(resolved.receipt.rejected).toMatchObject([{ address: 'b@xn--bcher-kva.example', code: 550 }]);

  await using lmtp = await startTurns([{ lost: true }], 'lmtp');
  const second = await run(lmtp.url, { to: ['a@y.org', 'b@y.org', 'c@y.org'] });
  expect(await get(second)).toMatchObject({ receipt: { accepted: ['a@y.org'] } });
  expect(await decide(second, 'resolve', { outcome: 'sent' })).toMatchObject({
    receipt: { accepted: ['a@y.org', 'c@y.org'], rejected: [{ address: 'b@y.org', code: 550 }] },
  });
});

it.each(['sync', 'async'])('who has an answer over LMTP does not get it again (%s)', async (mode) => {
  await using server = await startTurns([{ lost: true }], 'lmtp');
  const to = ['a@y.org', 'b@y.org', 'c@y.org'];
  const more = { to, onDoubt: 'resend', retry: { attempts: 3, firstDelayMs: 1 } };
  if (mode === 'sync') await run(server.url, more);
  else {
    const id = await put(server.url, more);
    await expect
      .poll(() => get(id))
      .toMatchObject({ state: 'partial', receipt: { accepted: ['a@y.org', 'c@y.org'] } });
  }
  expect(server.got).toEqual([to.join(), 'c@y.org']);
});

it('after a person said that it was not sent, a twin is sent to nobody who has it', async ({ expect }) => {
  await using server = await startNarrow(2);
  const more = { to: ['a@y.org', 'b@y.org'], duplicateWindowMs: 60_000 };
  await decide(await run(server.url, more), 'resolve', { outcome: 'not-sent' });
  await run(server.url, more);
  expect(server.got).toEqual(['a@y.org', 'b@y.org']);
});

/** Each waits a while, for nothing but time. */
describe.concurrent('some have it', () => {
  it('who was refused for now gets it later, nobody twice, and twins hear of it', async ({ expect }) => {
    const refusals = new Map([
      ['b@y.org', later],
      ['c@y.org', never],
    ]);
    await using inbox = await startRefusing(refusals);
    const id = await put(inbox.url, { duplicateWindowMs: 60_000 });
    await waits(expect, id);
    expect(await get(id)).toMatchObject({ receipt: { accepted: ['a@y.org'] }, error: null });
    refusals.delete('b@y.org');
    await expect.poll(() => get(id)).toMatchObject({ state: 'partial' });
    const ended = await get(id);
    expect(ended.receipt).toMatchObject({
      ...{ status: 'partial', accepted: ['a@y.org', 'b@y.org'], attempts: 2 },
      rejected: [{ address: 'c@y.org', code: 550 }],
    });
    expect(inbox.messages.map(({ envelope }) => envelope.to)).toEqual([['a@y.org'], ['b@y.org']]);
    const [first, second] = inbox.messages;
    expect(second?.messageId).toBe(first?.messageId);
    expect(second?.date).toEqual(first?.date);

    const twin = await put(inbox.url, { duplicateWindowMs: 60_000 });
    await expect
      .poll(() => get(twin))
      .toMatchObject({ receipt: { status: 'duplicate', accepted: ['a@y.org', 'b@y.org'] } });
    // A person has made the mailbox.
    refusals.clear();
    await decide(id, 'retry');
    await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { rejected: [] } });
    expect(inbox.messages.at(-1)?.envelope.to).toEqual(['c@y.org']);
  });

  it('who was put off before the others ran out of room is asked again all the same', async ({ expect }) => {
    const refusals = new Map([
      ['x@y.org', later],
      ['z@y.org', never],
    ]);
    await using server = await startNarrow(undefined, refusals);
    const id = await put(server.url, { to: ['a@y.org', 'x@y.org', 'z@y.org'] });
    await expect.poll(() => get(id)).toMatchObject({ state: 'queued', receipt: { rejected: { length: 2 } } });
    refusals.delete('x@y.org');
    await expect
      .poll(() => get(id))
      .toMatchObject({
        state: 'partial',
        receipt: { accepted: ['a@y.org', 'x@y.org'], rejected: [{ address: 'z@y.org', code: 550 }] },
      });
    expect(server.got).toEqual(['a@y.org', 'x@y.org']);
  });

  it('what some have stays delivered, whatever becomes of the others', async ({ expect }) => {
    const refusals = new Map([['b@y.org', later]]);
    await using inbox = await startRefusing(refusals);
    const [cancelled, refused] = [await put(inbox.url), await put(inbox.url)];
    await waits(expect, cancelled);
    expect(await decide(cancelled, 'cancel')).toMatchObject({
      state: 'partial',
      receipt: { accepted: ['a@y.org', 'c@y.org'], rejected: [{ address: 'b@y.org' }] },
    });
    await waits(expect, refused);
    refusals.set('b@y.org', never);
    await expect
      .poll(() => get(refused))
      .toMatchObject({
        state: 'partial',
        receipt: { rejected: [{ address: 'b@y.org', code: 550 }], attempts: 2 },
      });
    expect(inbox.messages).toHaveLength(2);
  });
});
