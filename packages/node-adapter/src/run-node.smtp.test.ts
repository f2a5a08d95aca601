import { SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { sendEmailNode } from './dialects/send-email/send-email.ts';
import type { SendEmailSettings } from './dialects/send-email/settings.ts';
import { parseFlowData } from './flow/flow-data.ts';
import { createFlowScope } from './flow/flow-scope.ts';
import { runNode } from './run-node.ts';

const flow = parseFlowData({ input: { mail: { keep: 1 }, when: new Date(0) }, context: { other: true } });
const settingsFor = (url: string): SendEmailSettings => ({
  connection: url,
  from: 'Robot <r@x.org>',
  to: 'Ann <a@x.org>',
  cc: ['b@x.org', { name: 'C', address: 'c@x.org' }],
  subject: 'Hello',
  html: '<p>Hi</p>',
  text: 'Hi',
  attachments: [{ kind: 'text', content: 'x', filename: 'a.txt' }],
});

describe('send-email', () => {
  it('sends, and stores the receipt beside what is there', async () => {
    await using inbox = await SmtpInbox.start();
    const settings = { ...settingsFor(inbox.url), store: { target: 'input', key: 'mail.result' } };
    const outcome = await runNode(sendEmailNode, settings, { flow });
    expect(outcome).toMatchObject({
      kind: 'continue',
      receipt: { status: 'sent', accepted: ['a@x.org', 'b@x.org', 'c@x.org'] },
      flow: {
        input: { mail: { keep: 1, result: { status: 'sent' } } },
        context: { other: true },
      },
    });
    expect(flow.input).toEqual({ mail: { keep: 1 }, when: new Date(0) });
    expect(inbox.messages[0]).toMatchObject({ subject: 'Hello', text: 'Hi', html: '<p>Hi</p>' });
    expect(inbox.messages[0]?.attachments).toMatchObject([{ filename: 'a.txt', size: 1 }]);
    // Its own scope closed with it.
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('takes a field left empty as left out', async () => {
    await using inbox = await SmtpInbox.start();
    const empty = {
      from: '',
      sender: '',
      messageId: '',
      date: null,
      inReplyTo: '',
      html: '',
      replyTo: '',
      cc: null,
      bcc: '',
      attachments: '',
      ...{ stopOnError: '', async: null, closeSession: '', loopGuard: null, onPartial: '', onDoubt: '' },
    };
    const settings = { ...settingsFor(`${inbox.url}?from=conn@x.org`), ...empty };
    expect(await runNode(sendEmailNode, settings, { flow })).toMatchObject({ kind: 'continue' });
    expect(inbox.messages[0]).toMatchObject({ from: [{ address: 'conn@x.org' }], html: undefined });
  });

  it('takes text for what a checkbox, a list and a number say', () => {
    const given = {
      ...{ stopOnError: 'false', async: 'off', closeSession: 'true', loopGuard: 'no', requireTls: 'false' },
      ...{
        priority: 'High',
        onPartial: ' Fail',
        onDoubt: 'RESEND',
        duplicateWindowMs: '1000',
        timeoutMs: '5000',
      },
      retry: { attempts: '2', firstDelayMs: '10' },
    };
    expect(sendEmailNode.settings.parse({ ...settingsFor('smtp://localhost:1'), ...given })).toMatchObject({
      ...{ stopOnError: false, async: false, closeSession: true, loopGuard: false, requireTls: false },
      ...{ priority: 'high', onPartial: 'fail', onDoubt: 'resend', duplicateWindowMs: 1000, timeoutMs: 5000 },
      retry: { attempts: 2, firstDelayMs: 10 },
    });
    const wrong = { ...settingsFor('smtp://localhost:1'), stopOnError: 'perhaps' };
    expect(sendEmailNode.settings.safeParse(wrong).success).toBe(false);
  });

  it('shares sessions within a scope, and closes them with it', async () => {
    await using inbox = await SmtpInbox.start();
    {
      await using scope = createFlowScope();
      for (let step = 0; step < 3; step++)
        await runNode(sendEmailNode, settingsFor(inbox.url), { flow, scope });
      expect([inbox.connections, inbox.openConnections]).toEqual([1, 1]);
      await runNode(sendEmailNode, { ...settingsFor(inbox.url), closeSession: true }, { flow, scope });
      await expect.poll(() => inbox.openConnections).toBe(0);
    }
    expect(inbox.messages).toHaveLength(4);
  });

  it('takes fields within fields as forms and the flow hand them over', async () => {
    await using inbox = await SmtpInbox.start();
    const settings = {
      connection: { host: '127.0.0.1', port: `${inbox.port}`, auth: null, service: '', tls: '' },
      from: 'a@x.org',
      to: { name: 4711, address: 'b@x.org' },
      subject: 'Hi',
      text: 'x',
      headers: { 'X-Order': '{{ input.n }}', 'X-Both': ['{{ input.n }}', 'b'] },
      attachments: [
        {
          kind: 'text',
          content: '{{ input.n }}',
          filename: '{{ input.n }}',
          contentType: '',
          contentId: null,
        },
        { kind: 'text', content: '', filename: 'empty.txt' },
      ],
      ...{ unsubscribe: { url: 'https://x.org/u', mailto: '' }, retry: { attempts: '', firstDelayMs: '5' } },
      ...{ store: { target: '', key: '' }, dsn: { notify: '', return: '' } },
      ...{ sandbox: { redirectTo: 'q@x.org', allowDomains: '' } },
      ...{ inReplyTo: '<20260101.123@>', references: ' <a@x>\r\n\t<q@b@x> <abc>' },
    };
    const outcome = await runNode(sendEmailNode, settings, { flow: parseFlowData({ input: { n: 4711 } }) });
    expect(outcome).toMatchObject({ receipt: { status: 'sent' } });
    const [mail] = inbox.messages;
    expect(mail?.raw.toString()).toMatch(/^X-Order: 4711\r$/m);
    expect(mail?.raw.toString()).toMatch(/^In-Reply-To: <20260101\.123@>\r$/m);
    expect(mail?.raw.toString()).toMatch(/^References: <a@x> <q@b@x> <abc> <20260101\.123@>\r$/m);
    expect(mail?.attachments.map(({ filename, content }) => [filename, content.length])).toEqual([
      ['4711', 4],
      ['empty.txt', 0],
    ]);
  });

  it.each([
    [true, 'halt'],
    [false, 'continue'],
  ] as const)(
    'with stopOnError %s a failure ends in %s, with the error stored',
    async (stopOnError, kind) => {
      await using inbox = await SmtpInbox.start({ users: { me: 'right' } });
      const settings = {
        ...settingsFor(`smtp://me:hunter2-wrong@127.0.0.1:${inbox.port}`),
        stopOnError,
        store: { target: 'context', key: 'mail' },
      };
      const outcome = await runNode(sendEmailNode, settings, { flow });
      const error = {
        code: 'AUTH_REFUSED',
        category: 'authentication',
        phase: 'auth',
        hint: expect.any(String),
      };
      expect(outcome).toMatchObject({ kind, error, flow: { context: { other: true, mail: { error } } } });
      expect(JSON.stringify(outcome)).not.toContain('hunter2');
      expect(inbox.messages).toEqual([]);
    },
  );

  it('reports every bad setting by path, and goes on when it should', async () => {
    const settings = {
      connection: 'smtp://127.0.0.1:2',
      to: 'a@b, , c@',
      subject: 'a\nb',
      colour: 1,
      stopOnError: 'no',
    };
    const outcome = await runNode(sendEmailNode, settings, { flow });
    if (!('error' in outcome)) throw new Error('sent');
    expect(outcome).toMatchObject({ kind: 'continue', error: { code: 'INPUT_INVALID', phase: 'validate' } });
    const issues = (outcome.error.details?.issues ?? []) as { path: string }[];
    expect(issues.map(({ path }) => path).toSorted()).toEqual(['', 'subject', 'to']);
  });

  it.each([
    [{}, 'CONNECTION_INVALID'],
    [null, 'INPUT_INVALID'],
    ['text', 'INPUT_INVALID'],
    [{ ...settingsFor('smtp://127.0.0.1:2'), to: [], cc: [] }, 'RECIPIENTS_MISSING'],
    [{ ...settingsFor('smtp://127.0.0.1:2'), from: undefined }, 'INPUT_INVALID'],
    [{ ...settingsFor('smtp://127.0.0.1:70000') }, 'CONNECTION_INVALID'],
    [
      { ...settingsFor('smtp://127.0.0.1:2'), connection: { host: '127.0.0.1', port: 70000 } },
      'CONNECTION_INVALID',
    ],
    [
      { ...settingsFor('smtp://127.0.0.1:2'), store: { target: 'input', key: 'a.__proto__.b' } },
      'RESULT_KEY_INVALID',
    ],
    [
      { ...settingsFor('smtp://127.0.0.1:2'), store: { target: 'input', key: 'mail.keep.x' } },
      'RESULT_KEY_INVALID',
    ],
    [{ ...settingsFor('smtp://127.0.0.1:2'), store: { target: 'input', key: 'a..b' } }, 'RESULT_KEY_INVALID'],
    [
      { ...settingsFor('smtp://127.0.0.1:2'), store: { target: 'input', key: 'when.x' } },
      'RESULT_KEY_INVALID',
    ],
  ])('settings %#: %s', async (settings, code) => {
    const outcome = await runNode(sendEmailNode, settings, { flow });
    expect(outcome).toMatchObject({
      kind: 'halt',
      error: { code, phase: 'validate', retryable: false },
      flow,
    });
    expect(({} as Record<string, unknown>).b).toBeUndefined();
  });
});
