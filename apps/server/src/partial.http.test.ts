import { FaultServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { afterAll, beforeAll, describe, type ExpectStatic, expect, it } from 'vitest';
import { type LocalServer, startLocal } from './testing/local-server.test-support.ts';

type Reply = { readonly code: number; readonly text: string };
const later: Reply = { code: 451, text: '4.7.1 greylisted' };
const never: Reply = { code: 550, text: '5.1.1 unknown' };

/** A mail server that refuses by address, with the replies in `refusals` as they are at that moment. */
async function startRefusing(refusals: Map<string, Reply>) {
  return SmtpInbox.start({ refuse: { rcptTo: (address) => refusals.get(address) } });
}
/** A server that takes one recipient a message, and loses the connection when it has so many messages, where told to. */
async function startNarrow(lostAt?: number, refusals: ReadonlyMap<string, Reply> = new Map()) {
  const got: string[] = [];
  let to = '';
  const server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      const address = /^RCPT TO:<(.*?)>/.exec(command)?.[1];
      if (command.startsWith('MAIL')) to = '';
      if (command === '.' && got.push(to) === lostAt) {
        socket.destroy();
        return null;
      }
      if (address === undefined) return undefined;
      const refusal = refusals.get(address);
      // Told of the first message that fails, it has taken everybody.
      if (got.length > 0 || lostAt !== 1) {
        if (to !== '') return '452 4.5.3 Too many recipients';
        if (refusal) return `${refusal.code} ${refusal.text}`;
      }
      to += address;
      return '250 ok';
    }),
  );
  return Object.assign(server, { got, url: `smtp://127.0.0.1:${server.port}?tls=none` });
}

let local: LocalServer;
beforeAll(async () => {
  local = await startLocal();
});
afterAll(() => local[Symbol.asyncDispose]());

const put = async (connection: string, more: object = {}) => {
  const settings = {
    connection,
    from: 'a@x.org',
    to: ['a@y.org', 'b@y.org', 'c@y.org'],
    subject: 'Hi',
    text: 'x',
  };
  const { body } = await local.client.post('/v1/nodes/send-email/runs', {
    settings: { ...settings, async: true, ...more },
  });
  return body.deliveryId as string;
};
const get = async (id: string) => (await local.client.get(`/v1/deliveries/${id}`)).body;
const decide = async (id: string, what: string, body?: object) =>
  (await local.client.post(`/v1/deliveries/${id}/${what}`, body)).body;
const waits = (expect: ExpectStatic, id: string) =>
  expect.poll(() => get(id)).toMatchObject({ state: 'queued', receipt: { status: 'partial' } });

it('who is more than a server takes in one message is no reason to wait', async ({ expect }) => {
  await using inbox = await SmtpInbox.start({ recipientsPerMessage: 1 });
  const id = await put(inbox.url, { to: ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `${name}@y.org`) });
  // The first waits between attempts would be a minute together.
  await expect.poll(() => get(id)).toMatchObject({ state: 'sent', receipt: { attempts: 1, rejected: [] } });
  expect(inbox.messages.map(({ envelope }) => envelope.to.length)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(await (await fetch(`${local.url}/metrics`)).text()).not.toContain('RECIPIENTS_DEFERRED');
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

/** A server that takes everybody but for whom it has a reply, in turn for each message, and loses the connection after the dot where it is told to. */
async function startTurns(
  turns: readonly { readonly refusals?: Record<string, string>; readonly lost?: true | string }[],
  protocol = 'smtp',
) {
  const got: string[] = [];
  let turn = -1;
  let to: string[] = [];
  const server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      if (command.startsWith('MAIL')) {
        turn++;
        to = [];
      }
      const { refusals = {}, lost } = turns[turn] ?? {};
      const address = /^RCPT TO:<(.*?)>/.exec(command)?.[1];
      if (address !== undefined && refusals[address] === undefined) to.push(address);
      if (address !== undefined) return refusals[address];
      if (command !== '.') return undefined;
      got.push(to.join());
      if (lost === undefined) return undefined;
      // What it says before.
      if (typeof lost === 'string') socket.write(lost);
      else if (protocol === 'lmtp') socket.write('250 ok\r\n550 5.1.1 no\r\n');
      socket.end();
      return null;
    }),
  );
  return Object.assign(server, { got, url: `${protocol}://127.0.0.1:${server.port}?tls=none` });
}
const run = async (connection: string, more: object = {}) => {
  const settings = { connection, from: 'a@x.org', subject: 'Hi', text: 'x', ...more };
  await local.client.post('/v1/nodes/send-email/runs', { settings });
  const { body } = await local.client.get('/v1/deliveries?state=in-doubt');
  return body.deliveries[0]?.id as string;
};

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
  const { body } = await local.client.post('/v1/nodes/send-email/runs', { settings });
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

it('after a person said that it was not sent, a twin is sent to nobody who has it', async ({ expect }) => {
  await using server = await startNarrow(2);
  const more = { to: ['a@y.org', 'b@y.org'], duplicateWindowMs: 60_000 };
  await decide(await run(server.url, more), 'resolve', { outcome: 'not-sent' });
  await run(server.url, more);
  expect(server.got).toEqual(['a@y.org', 'b@y.org']);
});

it('when somebody waited and the second of several messages is in doubt, what the first delivered is known', async ({
  expect,
}) => {
  const to = ['a@y.org', 'b@y.org', 'c@y.org'];
  const settings = { from: 'a@x.org', to, subject: 'Hi', text: 'x' };
  for (const outcome of ['sent', 'not-sent']) {
    await using server = await startNarrow(2);
    await local.client.post('/v1/nodes/send-email/runs', {
      settings: { ...settings, connection: server.url },
    });
    const { body } = await local.client.get('/v1/deliveries?state=in-doubt');
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

// Side by side, because each waits for a second attempt.
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

  it('who decides about a delivery in doubt decides for those alone who may not have it', async ({
    expect,
  }) => {
    const refusals = new Map([['b@y.org', later]]);
    await using inbox = await startRefusing(refusals);
    await using cut = await FaultServer.start({ stage: 'dot', fault: 'fin' });
    const resolved: Record<string, object> = {};
    for (const outcome of ['sent', 'not-sent']) {
      await local.client.post('/v1/connections', { name: outcome, connection: inbox.url });
      const id = await put(`@${outcome}`);
      await waits(expect, id);
      await local.client.call('PATCH', `/v1/connections/${outcome}`, {
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
      await local.client.post('/v1/connections', { name: end, connection: `smtp://127.0.0.1:${cut.port}` });
      const id = await put(`@${end}`, more);
      await expect.poll(() => get(id)).toMatchObject({ state: 'queued', error: { inDoubt: true } });
      refused = true;
      if (end === 'cancelled') await decide(id, 'cancel');
      else await local.client.call('PATCH', `/v1/connections/${end}`, { connection: inbox.url });
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
