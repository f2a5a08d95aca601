import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type BackgroundRunner, InProcessRunner, MemoryDuplicateStore, MemoryLogger } from '@flowpost/core';
import { FaultServer, RawServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { sendEmailNode } from '../dialects/send-email/send-email.ts';
import type { NodeOutcome } from '../node.ts';
import { prepareRun } from '../prepare-run.ts';
import { previewNode } from '../preview-node.ts';
import { type NodeHost, runNode } from '../run-node.ts';
import { type FlowDataInput, parseFlowData } from './flow-data.ts';
import { createFlowScope } from './flow-scope.ts';
import { type TakenIn, takeIn } from './taken-in.ts';

const settingsFor = (url: string, more: object = {}) => ({
  connection: url,
  from: 'robot@x.org',
  to: 'ann@x.org',
  subject: 'Hi',
  text: 'Hello',
  stopOnError: false,
  ...more,
});
const quick = { retry: { attempts: 3, firstDelayMs: 1, longestDelayMs: 5 } };
const run = (
  settings: object,
  host: Partial<NodeHost> = {},
  flow: FlowDataInput = {},
): Promise<NodeOutcome> => runNode(sendEmailNode, settings, { flow: parseFlowData(flow), ...host });
const receiptOf = (outcome: NodeOutcome) => {
  if ('receipt' in outcome) return outcome.receipt;
  throw new Error(outcome.error.message);
};

describe('asynchronous sends', () => {
  it('return before the server has answered; the scope waits for them when it closes', async () => {
    const gate = Promise.withResolvers<undefined>();
    await using inbox = await SmtpInbox.start({ refuse: { message: () => gate.promise } });
    const ended: NodeOutcome[] = [];
    {
      await using scope = createFlowScope();
      const store = { target: 'context', key: 'mail' };
      const outcome = await run(settingsFor(inbox.url, { async: true, store }), {
        scope,
        onSettled: (one, into) => {
          ended.push(one);
          expect(into(parseFlowData({ context: { later: 1 } })).context).toMatchObject({
            later: 1,
            mail: { status: 'sent' },
          });
        },
      });
      expect(receiptOf(outcome)).toMatchObject({ status: 'queued', attempts: 0, accepted: [] });
      expect(outcome.flow.context).toMatchObject({ mail: { status: 'queued' } });
      expect([ended, inbox.messages]).toEqual([[], []]);
      gate.resolve(undefined);
      const { messageId } = receiptOf(outcome);
      await expect.poll(() => ended.length).toBe(1);
      expect(ended).toMatchObject([{ kind: 'continue', receipt: { status: 'sent', messageId } }]);
    }
    expect(inbox.messages).toHaveLength(1);
  });

  it('are sent although the scope is closed at once, and although the flow is cancelled', async () => {
    await using inbox = await SmtpInbox.start();
    const flow = new AbortController();
    {
      await using scope = createFlowScope();
      await run(settingsFor(inbox.url, { async: true }), { scope, signal: flow.signal });
      flow.abort();
    }
    expect(inbox.messages).toHaveLength(1);
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('without a scope run in one of their own, which closes with them', async () => {
    await using inbox = await SmtpInbox.start();
    const settled = Promise.withResolvers<NodeOutcome>();
    await run(settingsFor(inbox.url, { async: true }), { onSettled: settled.resolve });
    expect(await settled.promise).toMatchObject({ receipt: { status: 'sent' } });
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('that fail are reported, while settings that are wrong are an error at once', async () => {
    await using inbox = await SmtpInbox.start({
      refuse: { rcptTo: () => ({ code: 550, text: '5.1.1 unknown' }) },
    });
    const settled = Promise.withResolvers<NodeOutcome>();
    await run(settingsFor(inbox.url, { async: true }), { onSettled: settled.resolve });
    expect(await settled.promise).toMatchObject({ kind: 'continue', error: { code: 'RECIPIENTS_REFUSED' } });
    expect(await run(settingsFor(inbox.url, { async: true, to: 'nobody' }))).toMatchObject({
      error: { code: 'ADDRESS_INVALID' },
    });
  });

  it("go to the host's runner where it has one", async () => {
    await using inbox = await SmtpInbox.start();
    const inner = new InProcessRunner();
    let tasks = 0;
    const background: BackgroundRunner = {
      run: (task) => {
        tasks++;
        inner.run(task);
      },
    };
    await using scope = createFlowScope({ background });
    await run(settingsFor(inbox.url, { async: true }), { scope });
    await scope.background.drain();
    expect([tasks, inbox.messages.length]).toEqual([1, 1]);
  });
});

describe('idempotency keys', () => {
  it('send once, with a Message-ID that comes of the key', async () => {
    await using inbox = await SmtpInbox.start();
    await using scope = createFlowScope({ duplicateStore: new MemoryDuplicateStore() });
    const first = receiptOf(await run(settingsFor(inbox.url, { idempotencyKey: 'order-1' }), { scope }));
    const again = receiptOf(await run(settingsFor(inbox.url, { idempotencyKey: 'order-1' }), { scope }));
    const other = receiptOf(await run(settingsFor(inbox.url, { idempotencyKey: 'order-2' }), { scope }));
    expect([first.status, again.status, other.status]).toEqual(['sent', 'duplicate', 'sent']);
    expect(again.messageId).toBe(first.messageId);
    expect(inbox.messages.map(({ messageId }) => messageId)).toEqual([first.messageId, other.messageId]);
    // Another process, which has forgotten: the recipient's server can still see that it is the same message.
    await using later = createFlowScope({ duplicateStore: new MemoryDuplicateStore() });
    const resent = receiptOf(
      await run(settingsFor(inbox.url, { idempotencyKey: 'order-1' }), { scope: later }),
    );
    expect(resent).toMatchObject({ status: 'sent', messageId: first.messageId });
  });

  it('used for another message are a conflict', async () => {
    await using inbox = await SmtpInbox.start();
    await using scope = createFlowScope({ duplicateStore: new MemoryDuplicateStore() });
    await run(settingsFor(inbox.url, { idempotencyKey: 'order-1' }), { scope });
    expect(
      await run(settingsFor(inbox.url, { idempotencyKey: 'order-1', subject: 'Other' }), { scope }),
    ).toMatchObject({
      error: { code: 'DUPLICATE_CONFLICT' },
    });
    expect(inbox.messages).toHaveLength(1);
  });
});

describe('retry and doubt', () => {
  it('tries again what the server put off, by default', async () => {
    let refusals = 2;
    await using inbox = await SmtpInbox.start({
      refuse: { mailFrom: () => (refusals-- > 0 ? { code: 451, text: '4.7.1 greylisted' } : undefined) },
    });
    expect(receiptOf(await run(settingsFor(inbox.url, quick)))).toMatchObject({
      status: 'sent',
      attempts: 3,
    });
    expect(sendEmailNode.settings.parse(settingsFor(inbox.url)).retry.attempts).toBe(3);
  });

  it('never what was refused for good, or with one attempt', async () => {
    let asked = 0;
    const code = () => {
      asked++;
      return { code: 550, text: '5.7.1 no' };
    };
    await using inbox = await SmtpInbox.start({ refuse: { mailFrom: code } });
    expect(await run(settingsFor(inbox.url, quick))).toMatchObject({ error: { code: 'SENDER_REFUSED' } });
    expect(asked).toBe(1);
  });

  it.each([
    ['hold', 1],
    ['resend', 2],
  ] as const)('what is in doubt: %s', async (onDoubt, copies) => {
    await using server = await FaultServer.start({ stage: 'dot', fault: 'fin', times: 1 });
    const outcome = await run(settingsFor(`smtp://127.0.0.1:${server.port}`, { ...quick, onDoubt }));
    if (onDoubt === 'hold')
      expect(outcome).toMatchObject({ error: { code: 'DELIVERY_IN_DOUBT', inDoubt: true } });
    else expect(receiptOf(outcome)).toMatchObject({ status: 'sent', attempts: 2 });
    expect(server.messages).toHaveLength(copies);
    const ids = server.messages.map((one) => /^Message-ID: (.+)$/im.exec(one.toString())?.[1]);
    expect(new Set(ids).size).toBe(1);
  });

  it('one time limit covers every attempt', async () => {
    await using inbox = await SmtpInbox.start({
      refuse: { mailFrom: () => ({ code: 451, text: '4.3.0 later' }) },
    });
    const slow = { retry: { attempts: 10, firstDelayMs: 60_000 }, timeoutMs: 300 };
    expect(await run(settingsFor(inbox.url, slow))).toMatchObject({ error: { code: 'SENDER_DEFERRED' } });
  });
});

describe('sandbox', () => {
  it('redirects everything to one mailbox, and says whom it was for', async () => {
    await using inbox = await SmtpInbox.start();
    const settings = settingsFor(inbox.url, {
      cc: 'Bob <bob@x.org>',
      bcc: 'eve@x.org',
      sandbox: { redirectTo: 'me@test.org' },
    });
    expect(receiptOf(await run(settings)).accepted).toEqual(['me@test.org']);
    expect(inbox.messages).toMatchObject([
      { envelope: { to: ['me@test.org'] }, to: [{ address: 'me@test.org' }], cc: [] },
    ]);
    expect(inbox.messages[0]?.headers.get('x-original-recipients')?.[0]).toContain(
      'ann@x.org, Bob <bob@x.org>, eve@x.org',
    );
  });

  it('lets mail go to listed domains only', async () => {
    await using inbox = await SmtpInbox.start();
    const sandbox = { allowDomains: ['Test.org'] };
    expect(await run(settingsFor(inbox.url, { to: 'a@test.org, ann@x.org', sandbox }))).toMatchObject({
      error: { code: 'RECIPIENT_NOT_ALLOWED', details: { addresses: ['ann@x.org'] } },
    });
    expect(receiptOf(await run(settingsFor(inbox.url, { to: 'a@TEST.org', sandbox }))).status).toBe('sent');
    expect(inbox.messages).toHaveLength(1);
  });

  it("the host's holds whatever the settings say", async () => {
    await using inbox = await SmtpInbox.start();
    const [redirectTo] = [{ address: 'me@test.org' }];
    await using scope = createFlowScope({ sandbox: { redirectTo } });
    await run(settingsFor(inbox.url, { sandbox: { allowDomains: ['x.org'] } }), { scope });
    expect(inbox.messages[0]?.envelope.to).toEqual(['me@test.org']);
  });

  it('both at once, or neither, is an error', async () => {
    for (const sandbox of [{}, { redirectTo: 'a@x.org', allowDomains: ['x.org'] }])
      expect(await run(settingsFor('smtp://127.0.0.1:2', { sandbox }))).toMatchObject({
        error: { code: 'INPUT_INVALID' },
      });
  });
});

describe('loop guard', () => {
  const flow = { trigger: { kind: 'email', from: 'Ann <ann@x.org>' } };

  it('is on unless it is switched off', async () => {
    await using inbox = await SmtpInbox.start();
    expect(await run(settingsFor(inbox.url), {}, flow)).toMatchObject({
      error: { code: 'MAIL_LOOP_BLOCKED' },
    });
    expect(receiptOf(await run(settingsFor(inbox.url, { loopGuard: false }), {}, flow)).status).toBe('sent');
  });

  it.each([
    ['Headers', new Headers({ 'Auto-Submitted': 'auto-replied' })],
    ['a Map', new Map([['Auto-Submitted', 'auto-replied']])],
    ['names and values', [{ name: 'Auto-Submitted', value: 'auto-replied' }]],
    ['text', 'Subject: Away\r\nAuto-Submitted: auto-replied\r\n'],
    ['bytes', Buffer.from('Subject: Away\r\nAuto-Submitted: auto-replied\r\n')],
    ['a Set', new Set(['odd', ['Auto-Submitted', 'auto-replied']])],
  ])('knows automatic mail by its header as %s', async (_, headers) => {
    const trigger = { kind: 'email', from: 'zoe@x.org', headers };
    expect(await run(settingsFor('smtp://127.0.0.1:2'), {}, { trigger })).toMatchObject({
      error: { code: 'MAIL_LOOP_AUTOMATIC' },
    });
  });

  it('knows what is no e-mail', async () => {
    await using inbox = await SmtpInbox.start();
    const named = ['mailchimp', 'mailing-list-form', 'emailFormSubmission', 'voicemail', 'mail-merge'];
    const happened = [
      'user.email.verified',
      'email_changed',
      'EmailSignup',
      'email.bounced',
      'Mailgun event',
    ];
    const forms = [
      'emailform',
      'E-Mail-Formular',
      'mailinglist',
      'EmailSignupForm',
      'contact-form.email',
      'email_contact_form',
      'campaign.email.opened',
    ];
    const triggers = [
      ...[...named, ...forms, 'list.email_added'].map((kind) => ({ kind, from: 'Ann <ann@x.org>' })),
      ...happened.map((kind) => ({ kind, data: { id: 1 }, headers: { 'Content-Type': 'application/json' } })),
    ];
    for (const trigger of triggers) {
      const outcome = await run(settingsFor(inbox.url), {}, { trigger });
      expect(outcome, trigger.kind).toMatchObject({ receipt: { status: 'sent' } });
    }
  });

  it.each([
    ['inbound-email', { 'Auto-Submitted': 'auto-replied', 'Return-Path': '<>' }, 'MAIL_LOOP_AUTOMATIC'],
    ['incoming mail', 'Return-Path: <>\r\n', 'MAIL_LOOP_AUTOMATIC'],
    ['email.received', { 'List-Id': '<l.x.org>' }, 'MAIL_LOOP_AUTOMATIC'],
    ['campaign-reply-email', { 'Auto-Submitted': 'auto-replied' }, 'MAIL_LOOP_AUTOMATIC'],
    ['gmailTrigger', new Map([['Reply-To', 'ann@x.org']]), 'MAIL_LOOP_BLOCKED'],
  ])('knows an e-mail without a From by its header: %s', async (kind, headers, code) => {
    const trigger = { kind, from: '', headers };
    expect(await run(settingsFor('smtp://127.0.0.1:2'), {}, { trigger })).toMatchObject({ error: { code } });
  });

  it.each([
    {},
    { type: 'email' },
    { kind: 'Mail' },
    { kind: 'e-mail' },
    { kind: 'gmail' },
    { type: 'imap' },
    { kind: 'n8n-nodes-base.emailReadImap' },
    { kind: 'New email arrives' },
    { kind: 'mailListener' },
    { kind: 'platform.email' },
    { kind: 'Email in list folder' },
  ])('knows an e-mail that says of itself %j', async (said) => {
    await using inbox = await SmtpInbox.start();
    const trigger = { ...said, from: 'Ann <ann@x.org>' };
    expect(await run(settingsFor(inbox.url), {}, { trigger })).toMatchObject({
      error: { code: 'MAIL_LOOP_BLOCKED' },
    });
    const other = { trigger: { kind: 'timer', from: 'ann@x.org' } };
    expect(receiptOf(await run(settingsFor(inbox.url), {}, other)).status).toBe('sent');
  });
});

describe('dynamic fields', () => {
  const flow = { input: { who: 'bob@x.org', topic: 'Tea & cake' } };
  const dynamic = { to: '{{ input.who }}', subject: '{{ input.topic }}', html: '<p>{{ input.topic }}</p>' };

  it('are worked out, in previews too', async () => {
    await using inbox = await SmtpInbox.start();
    await run(settingsFor(inbox.url, dynamic), {}, flow);
    expect(inbox.messages).toMatchObject([
      { subject: 'Tea & cake', to: [{ address: 'bob@x.org' }], html: '<p>Tea &amp; cake</p>' },
    ]);
    const preview = await previewNode(sendEmailNode, settingsFor(inbox.url, dynamic), {
      flow: parseFlowData(flow),
    });
    expect(preview.body.toString()).toContain('Subject: Tea & cake');
  });

  it('are not shown of what would not be sent', async () => {
    const settings = settingsFor('smtp://127.0.0.1:2', {
      to: 'ann@x.org',
      sandbox: { redirectTo: 'dev@x.org' },
    });
    const from = (address: string) => parseFlowData({ trigger: { kind: 'email', from: address } });
    const shown = (address: string, more: object = {}) =>
      previewNode(sendEmailNode, { ...settings, ...more }, { flow: from(address) });
    await expect(shown('ann@x.org')).rejects.toMatchObject({ code: 'MAIL_LOOP_BLOCKED' });
    await expect(shown('dev@x.org')).rejects.toMatchObject({ code: 'MAIL_LOOP_BLOCKED' });
    expect((await shown('ann@x.org', { loopGuard: false })).envelope.to).toEqual(['dev@x.org']);
    expect((await shown('zoe@x.org')).envelope.to).toEqual(['dev@x.org']);
  });

  it('are shown for Graph with those in Bcc, who are in the header there', async () => {
    const auth = {
      ...{ kind: 'oauth2-client-credentials', tenantId: 'contoso.com', clientId: 'c', clientSecret: 's' },
      user: 'a@x.org',
    };
    const place = { tenantId: 'contoso.com', objectId: 'a@x.org' };
    const connection = { kind: 'microsoft365', delivery: 'graph', ...place, auth };
    const preview = await previewNode(
      sendEmailNode,
      { ...settingsFor('smtp://127.0.0.1:2', { bcc: 'z@x.org' }), connection },
      { flow: parseFlowData({}) },
    );
    expect(preview.body.toString()).toContain('\r\nBcc: z@x.org\r\n');
  });

  it('are text where the host has worked them out already', async () => {
    await using inbox = await SmtpInbox.start();
    const written = settingsFor(inbox.url, { subject: '{{ input.topic }}' });
    await run(written, { dynamicFields: false }, flow);
    expect(inbox.messages[0]?.subject).toBe('{{ input.topic }}');
  });

  it('that are missing halt or continue the flow as the settings say', async () => {
    const outcome = await run(
      settingsFor('smtp://127.0.0.1:2', { subject: '{{ input.nothing }}' }),
      {},
      flow,
    );
    expect(outcome).toMatchObject({
      kind: 'continue',
      error: { code: 'DYNAMIC_FIELD_MISSING', details: { field: 'subject', path: 'input.nothing' } },
    });
  });
});

describe('whatever happens around a send', () => {
  it('a message that was sent stays sent when its result can no longer be stored', async () => {
    await using inbox = await SmtpInbox.start();
    const context: Record<string, unknown> = {};
    const flow = { ...parseFlowData({}), context };
    const outcome = await runNode(
      sendEmailNode,
      settingsFor(inbox.url, { store: { target: 'context', key: 'mail.result' } }),
      { flow, beforeData: () => void Object.assign(context, { mail: 'text by now' }) },
    );
    expect(outcome).toMatchObject({
      kind: 'continue',
      receipt: { status: 'sent' },
      warnings: [{ code: 'RESULT_NOT_STORED' }],
    });
    expect(inbox.messages).toHaveLength(1);
  });

  it('have attached files as they are when the flow goes on, which may take them away', async () => {
    await using inbox = await SmtpInbox.start();
    const folder = await mkdtemp(join(tmpdir(), 'flowpost-taken-'));
    const path = join(folder, 'report.bin');
    const ended: NodeOutcome[] = [];
    await using scope = createFlowScope({ attachments: { fileRoots: [folder], baseFolder: folder } });
    const attach = async () => {
      const settings = settingsFor(inbox.url, {
        async: true,
        attachments: [{ kind: 'file', path: 'report.bin' }],
      });
      return run(settings, { scope, onSettled: (one) => void ended.push(one) });
    };
    await writeFile(path, 'as it is');
    expect(await attach()).toMatchObject({ receipt: { status: 'queued' } });
    await rm(path);
    await expect.poll(() => ended).toMatchObject([{ receipt: { status: 'sent' } }]);
    expect(`${inbox.messages[0]?.attachments[0]?.content}`).toBe('as it is');
    expect(await attach()).toMatchObject({ error: { code: 'ATTACHMENT_NOT_FOUND' } });
    await rm(folder, { recursive: true });
  });

  it('hold no more of files than there is room for', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'flowpost-taken-'));
    const path = join(folder, 'large.bin');
    await writeFile(path, '');
    await truncate(path, 17 * 1_048_576);
    await using scope = createFlowScope({ attachments: { fileRoots: [folder] } });
    const settings = settingsFor('smtp://localhost', { attachments: [{ kind: 'file', path }] });
    const prepared = prepareRun(sendEmailNode, settings, { flow: parseFlowData({}) });
    const taken: TakenIn[] = [];
    while (taken.length < 4) taken.push(await takeIn(prepared, scope, undefined));
    const kinds = taken.map((one) => one.prepared.request.message.attachments[0]?.kind);
    expect(kinds).toEqual(['bytes', 'bytes', 'bytes', 'file']);
    for (const one of taken) one.release();
    const again = await takeIn(prepared, scope, undefined);
    expect(again.prepared.request.message.attachments).toMatchObject([{ kind: 'bytes' }]);
    again.release();
    await rm(folder, { recursive: true });
  });

  it('a host that fails to hear the outcome, or whose runner takes nothing, breaks nothing', async () => {
    await using inbox = await SmtpInbox.start();
    await using scope = createFlowScope();
    await run(settingsFor(inbox.url, { async: true }), {
      scope,
      onSettled: async () => Promise.reject(new Error('db')),
    });
    await run(settingsFor(inbox.url, { async: true }), {
      scope,
      onSettled: () => {
        throw new Error('sync');
      },
    });
    await scope.background.drain();
    expect(inbox.messages).toHaveLength(2);
    const full: BackgroundRunner = {
      run: () => {
        throw new Error('queue full');
      },
    };
    await using other = createFlowScope({ background: full });
    expect(await run(settingsFor(inbox.url, { async: true }), { scope: other })).toMatchObject({
      error: { code: 'INTERNAL' },
    });
  });

  it("a scope does not wait for what a host's runner has lost, and says that it has", async () => {
    await using inbox = await SmtpInbox.start();
    const logger = new MemoryLogger();
    const lost = { run: async () => Promise.reject(new Error('queue full')) } satisfies BackgroundRunner;
    {
      // Else this would take longer than a test may.
      await using scope = createFlowScope({ background: lost, logger, closeDeadlineMs: 600_000 });
      const ended: NodeOutcome[] = [];
      const onSettled = (outcome: NodeOutcome): void => void ended.push(outcome);
      expect(await run(settingsFor(inbox.url, { async: true }), { scope, onSettled })).toMatchObject({
        receipt: { status: 'queued' },
      });
      await expect.poll(() => ended).toMatchObject([{ error: { code: 'INTERNAL' } }]);
    }
    expect(logger.entries).toMatchObject([{ level: 'error', message: 'the background runner failed' }]);
  });

  it("what a host's runner has lost is not sent after all, and what it has begun goes on", async () => {
    let tasks: (() => Promise<void>)[] = [];
    /** Takes a task, perhaps begins it, and fails all the same. */
    const failing = (begins: boolean, fail: () => void | Promise<void>): BackgroundRunner => ({
      run(task) {
        tasks.push(task);
        if (begins) void task();
        return fail();
      },
    });
    const rejects = async () => Promise.reject(new Error('no answer'));
    const throws = () => {
      throw new Error('no answer');
    };
    for (const begins of [false, true]) {
      for (const fail of [rejects, throws]) {
        tasks = [];
        await using inbox = await SmtpInbox.start();
        const ended: NodeOutcome[] = [];
        {
          await using scope = createFlowScope({ background: failing(begins, fail) });
          const onSettled = (one: NodeOutcome): void => void ended.push(one);
          const outcome = await run(settingsFor(inbox.url, { async: true }), { scope, onSettled });
          if ('error' in outcome) ended.push(outcome);
          if (!begins) await expect.poll(() => ended).toHaveLength(1);
          for (const task of tasks) await task();
        }
        expect(inbox.messages).toHaveLength(begins ? 1 : 0);
        expect(ended.map((one) => ('error' in one ? one.error.code : one.receipt.status))).toEqual([
          begins ? 'sent' : 'INTERNAL',
        ]);
      }
    }
  });

  it("a scope waits for sends that a host's runner has, retries included", async () => {
    let refusals = 1;
    await using inbox = await SmtpInbox.start({
      refuse: { mailFrom: () => (refusals-- > 0 ? { code: 451, text: '4.3.0 later' } : undefined) },
    });
    const ended: NodeOutcome[] = [];
    {
      await using scope = createFlowScope({ background: new InProcessRunner() });
      const retry = { attempts: 3, firstDelayMs: 400 };
      await run(settingsFor(inbox.url, { async: true, retry }), {
        scope,
        onSettled: (one) => void ended.push(one),
      });
    }
    expect(ended).toMatchObject([{ receipt: { status: 'sent' } }]);
  });

  it('a scope waits for asynchronous sends as long as it is told to, whoever runs them', async () => {
    await using silent = await RawServer.start(() => undefined);
    const never: BackgroundRunner = { run: () => undefined };
    for (const background of [undefined, never]) {
      const scope = createFlowScope({ closeDeadlineMs: 1_500, background });
      const ended: NodeOutcome[] = [];
      const settings = settingsFor(`smtp://127.0.0.1:${silent.port}?tls=none`, { async: true, ...quick });
      await run(settings, { scope, onSettled: (outcome) => void ended.push(outcome) });
      const order: string[] = [];
      const timers = [delay(1_400, 'nearly over'), delay(2_900, 'twice the time')].map((one) =>
        one.then((what) => order.push(what)),
      );
      await scope[Symbol.asyncDispose]();
      order.push('closed');
      await Promise.all(timers);
      expect(order).toEqual(['nearly over', 'closed', 'twice the time']);
      if (!background) await expect.poll(() => ended.length).toBe(1);
    }
  });

  it('a closed scope ends what waits for another attempt, with why it has to', async () => {
    const refuse = { mailFrom: () => ({ code: 451, text: '4.7.1 greylisted' }) };
    await using inbox = await SmtpInbox.start({ refuse });
    const scope = createFlowScope();
    const waiting = run(settingsFor(inbox.url, { retry: { firstDelayMs: 50_000 } }), { scope });
    await delay(300);
    await scope[Symbol.asyncDispose]();
    expect(await waiting).toMatchObject({ error: { code: 'SENDER_DEFERRED', retryable: true } });
  });

  it('a closed scope sends nothing more', async () => {
    await using inbox = await SmtpInbox.start();
    const scope = createFlowScope();
    await scope[Symbol.asyncDispose]();
    expect(await run(settingsFor(inbox.url), { scope })).toMatchObject({ error: { code: 'SENDER_CLOSED' } });
    expect(inbox.connections).toBe(0);
  });

  it('a definition that cannot describe an error is no reason to throw', async () => {
    const broken = {
      ...sendEmailNode,
      describeError: () => {
        throw new Error('no words');
      },
    };
    const outcome = await runNode(broken, settingsFor('smtp://127.0.0.1:2', { to: 'nobody' }), {
      flow: parseFlowData({}),
    });
    expect(outcome).toMatchObject({ error: { code: 'ADDRESS_INVALID' } });
  });

  it('a twin of a message in doubt is in doubt too, at once', async () => {
    await using server = await FaultServer.start({ stage: 'dot', fault: 'fin' });
    await using scope = createFlowScope({ duplicateStore: new MemoryDuplicateStore() });
    const settings = settingsFor(`smtp://127.0.0.1:${server.port}`, { duplicateWindowMs: 60_000 });
    const outcomes = await Promise.all([run(settings, { scope }), run(settings, { scope })]);
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ error: { code: 'DELIVERY_IN_DOUBT', inDoubt: true } });
    expect(server.messages).toHaveLength(1);
  });

  it('what was tried out in a sandbox does not count as sent, and cannot answer itself', async () => {
    await using inbox = await SmtpInbox.start();
    await using scope = createFlowScope({ duplicateStore: new MemoryDuplicateStore() });
    const sandbox = { redirectTo: 'me@test.org' };
    const key = { idempotencyKey: 'order-1' };
    expect(receiptOf(await run(settingsFor(inbox.url, { ...key, sandbox }), { scope })).status).toBe('sent');
    expect(receiptOf(await run(settingsFor(inbox.url, key), { scope })).status).toBe('sent');
    const flow = { trigger: { kind: 'email', from: 'me@test.org' } };
    expect(await run(settingsFor(inbox.url, { sandbox }), { scope }, flow)).toMatchObject({
      error: { code: 'MAIL_LOOP_BLOCKED' },
    });
  });

  it('resending what is in doubt does not try again what was put off, when one attempt was asked for', async () => {
    let asked = 0;
    const later = () => {
      asked++;
      return { code: 451, text: '4.3.0 later' };
    };
    await using inbox = await SmtpInbox.start({ refuse: { mailFrom: later } });
    await run(settingsFor(inbox.url, { onDoubt: 'resend', retry: { attempts: 1 } }));
    expect(asked).toBe(1);
  });

  it.each([
    { headers: { 'X-B: 1\r\nX-Injected': 'yes' } },
    { to: [{ address: 'b@x.org>\r\nRCPT TO:<v@x.org' }] },
    { date: new Date(Number.NaN) },
  ])('what passed as checked and is not (%j) does not reach the wire', async (change) => {
    await using inbox = await SmtpInbox.start();
    await using scope = createFlowScope();
    const good = sendEmailNode.settings.parse(settingsFor(inbox.url));
    const { message, connection } = sendEmailNode.toSendRequest({ ...good, ...change } as typeof good, {
      settings: good,
      variables: new Map(),
    });
    await expect(scope.sender(connection).send(message)).rejects.toMatchObject({ category: 'input' });
    expect(inbox.messages).toEqual([]);
  });
});
