import { SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import { parseFlowData } from './flow/flow-data.ts';
import { type BatchRow, runBatch } from './run-batch.ts';

const flow = parseFlowData({ context: { sale: 'Spring' } });
const settingsFor = (inbox: SmtpInbox, more: object = {}) => ({
  connection: inbox.url,
  from: 'shop@x.org',
  to: '{{ row.email }}',
  subject: '{{ context.sale }}: {{ row.name }}',
  text: 'Hello {{ row.name }}',
  stopOnError: false,
  retry: { attempts: 1 },
  ...more,
});

async function collect<Row extends object>(batch: AsyncIterable<BatchRow<Row>>): Promise<BatchRow<Row>[]> {
  const rows: BatchRow<Row>[] = [];
  for await (const row of batch) rows.push(row);
  return rows.toSorted((a, b) => a.index - b.index);
}

it('sends one message a row, over a few sessions, and tells what became of each', async () => {
  await using inbox = await SmtpInbox.start();
  let taken = 0;
  async function* rows() {
    for (; taken < 40; taken++)
      yield { email: taken === 7 ? 'nobody' : `p${taken}@x.org`, name: `P${taken}` };
  }
  const results = await collect(
    runBatch(sendEmailNode, settingsFor(inbox), rows(), { flow, concurrency: 4 }),
  );
  expect(results.map(({ index }) => index)).toEqual(Array.from({ length: 40 }, (_, index) => index));
  const failed = results.filter(({ outcome }) => 'error' in outcome);
  expect(failed).toMatchObject([
    { index: 7, row: { name: 'P7' }, outcome: { error: { code: 'ADDRESS_INVALID' } } },
  ]);
  expect(inbox.messages).toHaveLength(39);
  expect(inbox.messages.find(({ subject }) => subject === 'Spring: P3')).toMatchObject({
    to: [{ address: 'p3@x.org' }],
  });
  expect(inbox.connections).toBeLessThanOrEqual(4);
  await expect.poll(() => inbox.openConnections).toBe(0);
});

it('takes rows only as they can be sent', async () => {
  await using inbox = await SmtpInbox.start();
  let taken = 0;
  function* endless() {
    for (;;) yield { email: 'a@x.org', name: `${taken++}` };
  }
  for await (const { index } of runBatch(sendEmailNode, settingsFor(inbox), endless(), {
    flow,
    concurrency: 3,
  })) {
    if (index >= 10) break;
  }
  expect(taken).toBeLessThanOrEqual(20);
  // What was under way when the reader stopped has ended too.
  expect(inbox.messages).toHaveLength(taken);
});

it('begins no further row after a failure that halts', async () => {
  await using inbox = await SmtpInbox.start();
  const rows = Array.from({ length: 30 }, (_, index) => ({
    email: index === 5 ? 'nobody' : 'a@x.org',
    name: `${index}`,
  }));
  const settings = settingsFor(inbox, { stopOnError: true });
  const results = await collect(runBatch(sendEmailNode, settings, rows, { flow, concurrency: 2 }));
  expect(results.length).toBeLessThan(12);
  expect(results.find(({ index }) => index === 5)?.outcome).toMatchObject({ kind: 'halt' });
  expect(inbox.messages).toHaveLength(results.length - 1);
});

it('a source that fails loses no result of what was sent', async () => {
  await using inbox = await SmtpInbox.start();
  function* failing() {
    yield { email: 'a@x.org', name: 'A' };
    yield { email: 'b@x.org', name: 'B' };
    throw new Error('db gone');
  }
  const seen: number[] = [];
  const all = (async () => {
    for await (const { index } of runBatch(sendEmailNode, settingsFor(inbox), failing(), { flow }))
      seen.push(index);
  })();
  await expect(all).rejects.toThrow('db gone');
  expect([seen.toSorted(), inbox.messages.length]).toEqual([[0, 1], 2]);
});

it('tells what became of a row while it waits for the next, and begins none after one that halts', async () => {
  await using inbox = await SmtpInbox.start();
  const told: string[] = [];
  let taken = 0;
  async function* slow() {
    for (; taken < 20; taken++) {
      yield { email: taken === 1 ? 'nobody' : 'a@x.org', name: 'A' };
      // The next row is there when it is known what became of this one.
      await expect.poll(() => told.length).toBe(taken + 1);
    }
  }
  const batch = runBatch(sendEmailNode, settingsFor(inbox, { stopOnError: true }), slow(), { flow });
  for await (const { outcome } of batch) told.push(outcome.kind);
  expect(told).toEqual(['continue', 'halt']);
  expect(taken).toBeLessThanOrEqual(2);
  expect(inbox.messages).toHaveLength(1);
});

it('ends with its signal, although its source does not', async () => {
  await using inbox = await SmtpInbox.start();
  async function* never() {
    yield { email: 'a@x.org', name: 'A' };
    await new Promise(() => undefined);
  }
  const signal = AbortSignal.timeout(300);
  const results = await collect(runBatch(sendEmailNode, settingsFor(inbox), never(), { flow, signal }));
  expect(results).toHaveLength(1);
});

it('waits for asynchronous sends too, so that rows do not pile up', async () => {
  await using inbox = await SmtpInbox.start();
  const rows = Array.from({ length: 10 }, (_, index) => ({ email: 'a@x.org', name: `${index}` }));
  const results = await collect(
    runBatch(sendEmailNode, settingsFor(inbox, { async: true }), rows, { flow, concurrency: 2 }),
  );
  expect(results.every(({ outcome }) => 'receipt' in outcome && outcome.receipt.status === 'sent')).toBe(
    true,
  );
  expect(inbox.messages).toHaveLength(10);
});

it.each([0, -1, Number.NaN, 1.5])('a concurrency of %s is an error', async (concurrency) => {
  await using inbox = await SmtpInbox.start();
  await expect(
    collect(runBatch(sendEmailNode, settingsFor(inbox), [{}], { flow, concurrency })),
  ).rejects.toMatchObject({
    code: 'INPUT_INVALID',
  });
});

it('stopping begins no further row, finishes what may be leaving, and cancels what waits', async () => {
  await using inbox = await SmtpInbox.start();
  const stop = new AbortController();
  const begun = new Set<number>();
  const rows = Array.from({ length: 50 }, (_, at) => ({ email: `p${at}@x.org` }));
  const settings = {
    connection: inbox.url,
    from: 'a@x.org',
    to: '{{ row.email }}',
    subject: 'Hi',
    text: 'x',
  };
  const states = new Map<number, string>();
  const batch = runBatch(sendEmailNode, settings, rows, {
    ...{ flow: parseFlowData({}), concurrency: 12, stopping: stop.signal },
    beforeData: (index) => void begun.add(index),
  });
  for await (const { index, outcome } of batch) {
    states.set(index, 'receipt' in outcome ? outcome.receipt.status : (outcome.error.category as string));
    if (states.size === 3) stop.abort();
  }
  expect(states.size).toBeLessThan(20);
  for (const [index, state] of states) expect(state).toBe(begun.has(index) ? 'sent' : 'cancelled');
  expect(inbox.messages).toHaveLength(begun.size);
});

it('stopping ends the wait for another attempt', async () => {
  await using inbox = await SmtpInbox.start({ refuse: { message: () => ({ code: 451, text: 'later' }) } });
  const stop = new AbortController();
  const settings = { connection: inbox.url, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x' };
  const retry = { attempts: 5, firstDelayMs: 3_600_000, longestDelayMs: 3_600_000 };
  const batch = runBatch(sendEmailNode, { ...settings, retry, stopOnError: false }, [{}], {
    ...{ flow: parseFlowData({}), stopping: stop.signal },
    transcript: ({ from, text }) => {
      if (from === 'server' && text.startsWith('451')) stop.abort();
    },
  });
  for await (const { outcome } of batch) expect(outcome).toMatchObject({ error: { retryable: true } });
});

it('rows whose source fails as it is closed leave no session behind', async () => {
  await using inbox = await SmtpInbox.start();
  function* rows() {
    try {
      for (;;) yield { email: 'p@x.org', name: 'P' };
    } finally {
      // biome-ignore lint/correctness/noUnsafeFinally: as a source may
      throw new Error('cannot be closed');
    }
  }
  for await (const _ of runBatch(sendEmailNode, settingsFor(inbox), rows(), { flow, concurrency: 1 })) break;
  await expect.poll(() => inbox.openConnections).toBe(0);
});
