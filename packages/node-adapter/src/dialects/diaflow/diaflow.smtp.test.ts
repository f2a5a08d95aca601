import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  generateSecretKey,
  type Lookup,
  ManualClock,
  MemoryDuplicateStore,
  resolveTlsMode,
  SecretBox,
} from '@flowpost/core';
import { createTestCertificates, SmtpInbox, type TestCertificates } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FlowDataInput, parseFlowData } from '../../flow/flow-data.ts';
import { createFlowScope, type FlowScope, type FlowScopeOptions } from '../../flow/flow-scope.ts';
import type { NodeOutcome } from '../../node.ts';
import { type NodeHost, runNode } from '../../run-node.ts';
import { diaflowNode } from './diaflow.ts';

let certificates: TestCertificates;
let folder: string;
beforeAll(async () => {
  certificates = await createTestCertificates();
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  await writeFile(join(folder, 'invoice.pdf'), '%PDF-1.7 invoice');
});
afterAll(() => rm(folder, { recursive: true }));

const longBase64 = Buffer.alloc(90, 0x81).toString('base64');
const users = { 'me@x.org': 'pw-S3cret' };
const settingsFor = (inbox: { readonly port: number }, more: object = {}) => ({
  credentials: {
    host: 'localhost',
    port: inbox.port,
    username: 'me@x.org',
    password: 'pw-S3cret',
    fromEmail: 'me@x.org',
  },
  to: 'a@x.org',
  subject: 'Invoice',
  message: 'Here it is',
  ...more,
});
const scopeFor = (options: FlowScopeOptions = {}): FlowScope =>
  createFlowScope({
    duplicateStore: new MemoryDuplicateStore(),
    attachments: { baseFolder: folder, fileRoots: [folder] },
    ...options,
  });

async function run(
  settings: object,
  flow: FlowDataInput = {},
  host: Partial<NodeHost> = {},
): Promise<NodeOutcome> {
  await using own = host.scope ? undefined : scopeFor();
  const outcome = await runNode(diaflowNode, settings, { flow: parseFlowData(flow), scope: own, ...host });
  expect(JSON.stringify(outcome)).not.toMatch(/S3cret/);
  return outcome;
}

describe('connection', () => {
  it('[DIA-01] sends from the mailbox of the saved resource', async () => {
    await using inbox = await SmtpInbox.start({ users });
    expect(await run(settingsFor(inbox))).toMatchObject({ kind: 'continue', receipt: { status: 'sent' } });
    expect(inbox.messages).toMatchObject([{ user: 'me@x.org', from: [{ address: 'me@x.org' }] }]);
  });

  it.each([
    ['DIA-02', 465, 'implicit'],
    ['DIA-03', 587, 'starttls'],
    ['DIA-03', 25, 'starttls'],
    ['DIA-03', 2525, 'starttls'],
  ] as const)('[%s] port %d is %s', (_, port, tls) => {
    const settings = diaflowNode.settings.parse({
      credentials: { host: 'smtp.example.com', port, username: 'me@x.org', password: 'x' },
      to: 'a@x.org',
    });
    const { connection } = diaflowNode.toSendRequest(settings, {
      settings,
      variables: new Map(),
    });
    expect(connection).toMatchObject({ tls: 'auto', port });
    expect(resolveTlsMode('auto', 'smtp.example.com', port)).toBe(tls);
  });

  it('[DIA-03] another machine that offers no STARTTLS gets neither login nor message', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const lookup: Lookup = async () => [{ address: '127.0.0.1', family: 4 }];
    await using scope = scopeFor({ lookup });
    const { credentials, ...rest } = settingsFor(inbox);
    const settings = { ...rest, credentials: { ...credentials, host: 'smtp.example.com' } };
    expect(await run(settings, {}, { scope })).toMatchObject({
      kind: 'halt',
      error: { code: 'TLS_NOT_OFFERED' },
    });
    expect([inbox.authAttempts, inbox.messages]).toEqual([[], []]);
  });

  it('[DIA-03] STARTTLS is used where it is offered', async () => {
    await using inbox = await SmtpInbox.start({ users, tls: 'starttls', certificate: certificates.valid });
    await run(settingsFor(inbox, { tlsOptions: { ca: certificates.authority.cert } }));
    expect(inbox.messages).toMatchObject([{ secure: true }]);
  });

  it("[DIA-04] the user name is the sender when there is no From e-mail, as with Gmail's example", async () => {
    await using inbox = await SmtpInbox.start({ users });
    const { credentials, ...rest } = settingsFor(inbox);
    await run({ ...rest, credentials: { ...credentials, fromEmail: '' } });
    expect(inbox.messages[0]?.from).toMatchObject([{ address: 'me@x.org' }]);
  });

  it('[DIA-05] a wrong host, port, user name or password is reported and nothing is sent', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const { credentials, ...rest } = settingsFor(inbox);
    const wrong = { ...rest, credentials: { ...credentials, password: 'wrong-S3cret' } };
    expect(await run(wrong)).toMatchObject({
      kind: 'halt',
      error: { code: 'AUTH_REFUSED', hint: expect.stringMatching(/app password/) },
    });
    expect(await run({ ...rest, credentials: { ...credentials, port: 70_000 } })).toMatchObject({
      error: { code: 'INPUT_INVALID' },
    });
    expect(inbox.messages).toEqual([]);
  });
});

describe('fields', () => {
  const flow = {
    input: {
      list: ['a@x.org', 'Bob <b@x.org>'],
      one: { name: 'C', address: 'c@x.org' },
      topic: 'Tea',
      text: 'a@x.org, b@x.org',
    },
    context: { file: new Uint8Array([1, 2, 3]) },
  };

  it('[DIA-06] [DIA-07] To, Cc, Object and Message take values of earlier steps, lists included', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const settings = settingsFor(inbox, {
      to: '{{ input.list }}',
      cc: '{{ input.one }}',
      subject: 'Re: {{ input.topic }}',
      message: 'About {{ input.topic }}',
    });
    await run(settings, flow);
    expect(inbox.messages).toMatchObject([
      {
        to: [{ address: 'a@x.org' }, { name: 'Bob', address: 'b@x.org' }],
        cc: [{ name: 'C', address: 'c@x.org' }],
        subject: 'Re: Tea',
      },
    ]);
    expect(inbox.messages[0]?.text?.trim()).toBe('About Tea');
  });

  it.each([
    ['one address', 'a@x.org', ['a@x.org']],
    ['several with commas', 'a@x.org, b@x.org', ['a@x.org', 'b@x.org']],
    ['a list', ['a@x.org', 'b@x.org'], ['a@x.org', 'b@x.org']],
    ['a list from an earlier step', '{{ input.text }}', ['a@x.org', 'b@x.org']],
  ])('[DIA-07] [DIA-08] To and Cc take %s', async (_, given, expected) => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox, { to: given, cc: given }), flow);
    expect(inbox.messages[0]?.to.map(({ address }) => address)).toEqual(expected);
    expect(inbox.messages[0]?.cc.map(({ address }) => address)).toEqual(expected);
  });

  it.each([
    ['a@x.org b@x.org', /"a@x.org b@x.org"/],
    ['a@x.org\nb@x.org', /a@x.org/],
    ['["a@x.org"]', /\[/],
    [['a@x.org', 'nobody'], /"nobody" \(address 2/],
    ['ask Ann', /"ask Ann"/],
  ])('[DIA-09] an unusual list (%j) gets an error that names the bad part', async (to, named) => {
    await using inbox = await SmtpInbox.start({ users });
    const outcome = await run(settingsFor(inbox, { to }));
    expect(outcome).toMatchObject({
      kind: 'halt',
      error: { code: 'ADDRESS_INVALID', message: expect.stringMatching(named) },
    });
    expect(inbox.messages).toEqual([]);
  });

  it('[DIA-10] the subject may be called object', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox, { subject: undefined, object: 'Called object' }));
    expect(inbox.messages[0]?.subject).toBe('Called object');
    expect(await run(settingsFor(inbox, { object: 'Another' }))).toMatchObject({
      error: { code: 'INPUT_INVALID' },
    });
  });

  it('[DIA-11] a message with tags is HTML, one without is plain text', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox, { message: '<p>Hello</p>' }));
    await run(settingsFor(inbox, { message: '1 < 2 and 3 > 2, a <b@x.org> too' }));
    await run(settingsFor(inbox, { message: 'forced', messageFormat: 'html' }));
    expect(inbox.messages.map(({ html }) => html?.trim())).toEqual(['<p>Hello</p>', undefined, 'forced']);
  });

  it('[DIA-11] what the flow puts into a message decides nothing about its format, and is escaped in HTML', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const hostile = { input: { n: '<b>Bob</b>', whole: '<p>Hi</p>' } };
    await run(settingsFor(inbox, { message: 'Hello {{ input.n }}' }), hostile);
    await run(settingsFor(inbox, { message: '<p>Hello {{ input.n }}</p>' }), hostile);
    await run(settingsFor(inbox, { message: '{{ input.whole }}' }), hostile);
    await run(settingsFor(inbox, { message: 'Dear <Name>,\nline' }), hostile);
    expect(inbox.messages.map(({ html }) => html?.trim())).toEqual([
      undefined,
      '<p>Hello &lt;b&gt;Bob&lt;/b&gt;</p>',
      '<p>Hi</p>',
      undefined,
    ]);
    expect(inbox.messages[3]?.text?.trim()).toBe('Dear <Name>,\nline');
  });

  it('[DIA-11] the format that is given decides, however it is written', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const flow = { input: { n: 'A & <b>', format: 'html' } };
    await run(settingsFor(inbox, { message: 'Hi {{ input.n }}', messageFormat: 'HTML' }), flow);
    await run(settingsFor(inbox, { message: 'Ho {{ input.n }}', messageFormat: '{{ input.format }}' }), flow);
    await run(settingsFor(inbox, { message: 'Use <b> {{ input.n }}', messageFormat: 'text' }), flow);
    expect(inbox.messages.map(({ html }) => html?.trim())).toEqual([
      'Hi A &amp; &lt;b&gt;',
      'Ho A &amp; &lt;b&gt;',
      undefined,
    ]);
    expect(inbox.messages[2]?.text?.trim()).toBe('Use <b> A & <b>');
  });

  it('[DIA-06] a number from an earlier step is text', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox, { subject: '{{ input.n }}', message: '{{ input.n }}' }), {
      input: { n: 7 },
    });
    expect(inbox.messages[0]).toMatchObject({ subject: '7' });
    expect(inbox.messages[0]?.text?.trim()).toBe('7');
  });

  it.each([
    ['a path', 'invoice.pdf', 'invoice.pdf', '%PDF-1.7 invoice'],
    ['a data URL', 'data:text/plain,hi', 'attachment', 'hi'],
    ['bytes of an earlier step', '{{ context.file }}', 'attachment', '\x01\x02\x03'],
    ['a file object', { filename: 'b.txt', content: 'aGk=' }, 'b.txt', 'hi'],
    ['a word that could be Base64', { filename: 'a.txt', content: 'done' }, 'a.txt', 'done'],
    ['digits that could be Base64', { filename: 'order.txt', content: '12345678' }, 'order.txt', '12345678'],
    ['Base64 of what is no text', { filename: 'a.bin', content: 'AQID' }, 'a.bin', '\x01\x02\x03'],
    ['an empty file', { filename: 'empty.txt', content: '' }, 'empty.txt', ''],
    [
      'a file object with another name for its name',
      { name: 'c.pdf', path: 'invoice.pdf' },
      'c.pdf',
      '%PDF-1.7 invoice',
    ],
    [
      'a file as n8n has it',
      { fileName: 'x.gif', mimeType: 'image/gif', content: 'AQID' },
      'x.gif',
      '\x01\x02\x03',
    ],
    [
      'long Base64 that says nothing of what it is',
      { content: longBase64 },
      '',
      Buffer.from(longBase64, 'base64').toString('latin1'),
    ],
    [
      'a word of a media type that is text',
      { fileName: 'note', mimeType: 'text/plain', content: 'done' },
      'note',
      'done',
    ],
    [
      'a path beside an empty content',
      { name: 'c.pdf', path: 'invoice.pdf', content: '' },
      'c.pdf',
      '%PDF-1.7 invoice',
    ],
    ['a URL beside an empty content', { name: 'c', url: 'data:text/plain,hi', content: '' }, 'c', 'hi'],
    ['a data URL with a name', { fileName: 'r.csv', url: 'data:text/csv,a%2Cb' }, 'r.csv', 'a,b'],
  ])('[DIA-12] [DIA-13] attachments: %s', async (_, attachment, filename, content) => {
    await using inbox = await SmtpInbox.start({ users });
    const outcome = await run(settingsFor(inbox, { attachments: [attachment] }), flow);
    expect(outcome).toMatchObject({ receipt: { status: 'sent' } });
    const [one] = inbox.messages[0]?.attachments ?? [];
    expect(one?.filename ?? '').toMatch(new RegExp(`^${filename}`));
    expect(one?.content.toString('latin1')).toBe(content);
  });

  it('[DIA-13] a whole list of files comes from one expression', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const input = { files: ['invoice.pdf', { filename: 'x.txt', content: 'aGk=' }] };
    await run(settingsFor(inbox, { attachments: '{{ input.files }}' }), { input });
    await run(settingsFor(inbox, { attachments: ['{{ input.files }}'], subject: 'again' }), { input });
    expect(inbox.messages).toHaveLength(2);
    for (const { attachments } of inbox.messages)
      expect(attachments.map(({ filename }) => filename)).toEqual(['invoice.pdf', 'x.txt']);
  });

  it.each([
    ['gone.pdf', 'ATTACHMENT_NOT_FOUND'],
    ['/etc/hostname', 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS'],
    ['http://127.0.0.1:9/x', 'ATTACHMENT_URL_REFUSED'],
    [{ filename: 'nothing.txt' }, 'ATTACHMENT_INVALID'],
  ])(
    '[DIA-14] an attachment that is missing or out of reach (%j) is an error, and nothing is sent',
    async (attachment, code) => {
      await using inbox = await SmtpInbox.start({ users });
      expect(await run(settingsFor(inbox, { attachments: [attachment] }))).toMatchObject({
        kind: 'halt',
        error: { code },
      });
      expect(inbox.messages).toEqual([]);
    },
  );

  it('[DIA-15] the result of the send is visible', async () => {
    await using inbox = await SmtpInbox.start({ users });
    expect(await run(settingsFor(inbox))).toMatchObject({
      receipt: {
        status: 'sent',
        accepted: ['a@x.org'],
        rejected: [],
        messageId: expect.stringMatching(/^<.+@x\.org>$/),
      },
    });
  });
});

describe('mail-loop guard', () => {
  const from = (one: string, more: object = {}): FlowDataInput => ({
    trigger: { kind: 'email', from: one, ...more },
  });

  it.each([
    ['To', 'ann@gmail.com', { to: 'ann@gmail.com' }],
    ['Cc', 'ann@gmail.com', { cc: 'b@x.org, ann@gmail.com' }],
    ['Bcc', 'ann@gmail.com', { bcc: ['ann@gmail.com'] }],
    ['To in another case', 'ann@gmail.com', { to: 'Ann@GMAIL.com' }],
    ['To with a display name', 'Ann Example <ann@gmail.com>', { to: '"Somebody" <ann@gmail.com>' }],
    ['To with a plus tag', 'ann+news@gmail.com', { to: 'ann@gmail.com' }],
    ['To with dots', 'ann@gmail.com', { to: 'a.n.n@googlemail.com' }],
  ])('[DIA-16] [DIA-17] the triggering mailbox in %s is blocked', async (_, trigger, change) => {
    await using inbox = await SmtpInbox.start({ users });
    expect(await run(settingsFor(inbox, change), from(trigger))).toMatchObject({
      kind: 'halt',
      error: { code: 'MAIL_LOOP_BLOCKED', category: 'input', retryable: false },
    });
    expect(inbox.connections).toBe(0);
  });

  it('[DIA-16] other addresses, and flows that something else started, are not', async () => {
    await using inbox = await SmtpInbox.start({ users });
    expect(await run(settingsFor(inbox), from('ann@gmail.com'))).toMatchObject({
      receipt: { status: 'sent' },
    });
    expect(await run(settingsFor(inbox, { subject: 'Two' }), { input: null, trigger: null })).toMatchObject({
      receipt: { status: 'sent' },
    });
    const webhook = { trigger: { kind: 'webhook', from: 'a@x.org' } };
    expect(await run(settingsFor(inbox), webhook)).toMatchObject({ receipt: { status: 'sent' } });
  });

  it('[DIA-18] a flow that automatic mail started sends nothing', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const flow = from('bot@y.org', { headers: { 'Auto-Submitted': 'auto-replied' } });
    expect(await run(settingsFor(inbox), flow)).toMatchObject({ error: { code: 'MAIL_LOOP_AUTOMATIC' } });
    for (const headers of [
      [{ name: 'Auto-Submitted', value: 'auto-replied' }],
      'Auto-Submitted: auto-generated\r\n',
      { Precedence: 'auto_reply' },
    ]) {
      expect(await run(settingsFor(inbox), from('bot@y.org', { headers }))).toMatchObject({
        error: { code: 'MAIL_LOOP_AUTOMATIC' },
      });
    }
    const bounce = from('Mail Delivery <MAILER-DAEMON@y.org>');
    expect(await run(settingsFor(inbox), bounce)).toMatchObject({ error: { code: 'MAIL_LOOP_AUTOMATIC' } });
    const nobody = { trigger: { kind: 'email' } };
    expect(await run(settingsFor(inbox), nobody)).toMatchObject({ error: { code: 'MAIL_LOOP_AUTOMATIC' } });
    // What is said of it is what can be done in this node.
    const hinted = { error: { hint: expect.stringMatching(/Filter automatic replies/) } };
    expect(await run(settingsFor(inbox), nobody)).toMatchObject(hinted);
    const person = from('ann@y.org', { headers: { 'auto-submitted': 'no' } });
    expect(await run(settingsFor(inbox), person)).toMatchObject({ receipt: { status: 'sent' } });
  });

  it('[DIA-18] what a flow sends because of mail says that a machine sent it, so that another flow does not answer', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox), from('ann@y.org'));
    const headers = inbox.messages[0]?.headers;
    expect(headers?.get('auto-submitted')).toEqual(['Auto-Submitted: auto-generated']);
    const next = from('me@x.org', { headers });
    expect(await run(settingsFor(inbox), next)).toMatchObject({ error: { code: 'MAIL_LOOP_AUTOMATIC' } });
    await run(settingsFor(inbox, { subject: 'Another' }));
    expect(inbox.messages[1]?.headers.has('auto-submitted')).toBe(false);
  });

  it('[DIA-16] a trigger whose From is an object, a list or only among the headers counts too', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const triggers = [
      { kind: '', from: 'a@x.org' },
      { kind: ' ', type: 'E-mail ', from: 'a@x.org' },
      { from: { name: 'A', address: 'a@x.org' } },
      { from: [{ address: 'a@x.org' }] },
      { headers: { From: 'A <a@x.org>' } },
      { from: { value: [{ address: 'a@x.org' }] } },
      { from: 'b@y.org', headers: [{ name: 'Reply-To', value: 'a@x.org' }] },
      { from: 'b@y.org', headers: new Map([['reply-to', 'a@x.org']]) },
      { from: 'b@y.org', headers: 'Received: x\r\nReply-To: A\r\n <a@x.org>\r\n' },
      { from: 'b@y.org', headers: { 'Reply-To': { address: 'a@x.org' } } },
      { from: 'b@y.org', headers: { 'resent-from': 'a@x.org' } },
    ];
    for (const trigger of triggers) {
      expect(await run(settingsFor(inbox), { trigger: { kind: 'Email', ...trigger } })).toMatchObject({
        error: { code: 'MAIL_LOOP_BLOCKED' },
      });
    }
  });
});

describe('duplicate guard', () => {
  async function within(
    work: (inbox: SmtpInbox, scope: FlowScope, clock: ManualClock) => Promise<void>,
  ): Promise<void> {
    await using inbox = await SmtpInbox.start({ users });
    const clock = new ManualClock(Date.now());
    await using scope = scopeFor({ duplicateStore: new MemoryDuplicateStore(clock) });
    await work(inbox, scope, clock);
  }
  const statusOf = (outcome: NodeOutcome): string =>
    'receipt' in outcome ? outcome.receipt.status : outcome.error.code;

  it('[DIA-19] two accounts are two, even when who they are is encrypted', async () => {
    await using inbox = await SmtpInbox.start({ users: { ...users, 'two@x.org': 'pw-S3cret' } });
    const secretBox = new SecretBox([generateSecretKey('k')]);
    await using scope = scopeFor({ secretBox });
    for (const name of ['me@x.org', 'two@x.org']) {
      const { compact } = await secretBox.encrypt(name);
      const settings = settingsFor(inbox);
      const credentials = { ...settings.credentials, username: compact };
      for (const status of ['sent', 'duplicate'])
        expect(statusOf(await run({ ...settings, credentials }, {}, { scope }))).toBe(status);
    }
    expect(inbox.messages.map(({ user }) => user)).toEqual(['me@x.org', 'two@x.org']);
  });

  it('[DIA-19] the same node with the same content within the hour returns the earlier success', () =>
    within(async (inbox, scope, clock) => {
      const first = await run(settingsFor(inbox), {}, { scope });
      clock.advance(3_599_999);
      const second = await run(settingsFor(inbox), {}, { scope });
      if (!('receipt' in first && 'receipt' in second)) throw new Error('not sent');
      expect(second.receipt).toEqual({ ...first.receipt, status: 'duplicate' });
      expect(inbox.messages).toHaveLength(1);
    }));

  it('[DIA-19] what started the flow makes no other message of it, nor is it an answer to who is called alike', () =>
    within(async (inbox, scope) => {
      const by = (from: string): FlowDataInput => ({ trigger: { kind: 'email', from } });
      expect(statusOf(await run(settingsFor(inbox), by('aa@x.org'), { scope }))).toBe('sent');
      expect(statusOf(await run(settingsFor(inbox), by('c@y.org'), { scope }))).toBe('duplicate');
      expect(statusOf(await run(settingsFor(inbox), {}, { scope }))).toBe('duplicate');
      expect(inbox.messages[0]?.headers.get('auto-submitted')).toEqual(['Auto-Submitted: auto-generated']);
    }));

  it('[DIA-20] after the hour it is sent again', () =>
    within(async (inbox, scope, clock) => {
      await run(settingsFor(inbox), {}, { scope });
      clock.advance(3_600_000);
      expect(statusOf(await run(settingsFor(inbox), {}, { scope }))).toBe('sent');
      expect(inbox.messages).toHaveLength(2);
    }));

  it.each([
    ['the subject', { subject: 'Another' }, 'sent'],
    ['the message', { message: 'Another' }, 'sent'],
    ['a recipient', { to: ['a@x.org', 'c@x.org'] }, 'sent'],
    ['the order of recipients', { to: ['b@x.org', 'a@x.org'] }, 'duplicate'],
    ['the way recipients are written', { to: 'a@X.org, b@x.org' }, 'duplicate'],
    ['Cc in place of To', { to: 'a@x.org', cc: 'b@x.org' }, 'sent'],
    ['nothing', {}, 'duplicate'],
  ])('[DIA-21] a run that differs in %s', async (_, change, expected) => {
    await within(async (inbox, scope) => {
      const settings = settingsFor(inbox, { to: ['a@x.org', 'b@x.org'] });
      await run(settings, {}, { scope });
      expect(statusOf(await run({ ...settings, ...change }, {}, { scope }))).toBe(expected);
      expect(inbox.messages).toHaveLength(expected === 'sent' ? 2 : 1);
    });
  });

  it('[DIA-21] the content of an attachment counts, not its path', () =>
    within(async (inbox, scope) => {
      const path = join(folder, 'changing.txt');
      await writeFile(path, 'one');
      const settings = settingsFor(inbox, { attachments: [path] });
      expect(statusOf(await run(settings, {}, { scope }))).toBe('sent');
      expect(statusOf(await run(settings, {}, { scope }))).toBe('duplicate');
      await writeFile(path, 'two');
      expect(statusOf(await run(settings, {}, { scope }))).toBe('sent');
      expect(inbox.messages.map(({ attachments }) => attachments[0]?.content.toString())).toEqual([
        'one',
        'two',
      ]);
    }));

  it('[DIA-21] another node, or another mailbox, is not the same', () =>
    within(async (inbox, scope) => {
      await run(settingsFor(inbox), {}, { scope, nodeId: 'first' });
      expect(statusOf(await run(settingsFor(inbox), {}, { scope, nodeId: 'second' }))).toBe('sent');
      expect(statusOf(await run(settingsFor(inbox), {}, { scope, nodeId: 'first' }))).toBe('duplicate');
      await using other = await SmtpInbox.start({ users });
      expect(statusOf(await run(settingsFor(other), {}, { scope, nodeId: 'first' }))).toBe('sent');
    }));

  it('[DIA-22] fifty runs at once send one message', () =>
    within(async (inbox, scope) => {
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, () => run(settingsFor(inbox), {}, { scope })),
      );
      const statuses = outcomes.map(statusOf);
      expect(statuses.filter((status) => status === 'sent')).toHaveLength(1);
      expect(statuses.filter((status) => status === 'duplicate')).toHaveLength(49);
      expect(inbox.messages).toHaveLength(1);
    }));

  it('[DIA-23] a send that failed is not remembered as a success', async () => {
    let refusals = 1;
    await using inbox = await SmtpInbox.start({
      users,
      refuse: { message: () => (refusals-- > 0 ? { code: 451, text: '4.3.0 later' } : undefined) },
    });
    await using scope = scopeFor();
    expect(await run(settingsFor(inbox), {}, { scope })).toMatchObject({
      error: { code: 'MESSAGE_DEFERRED' },
    });
    expect(statusOf(await run(settingsFor(inbox), {}, { scope }))).toBe('sent');
    expect(inbox.messages).toHaveLength(1);
  });

  it('[DIA-24] a node without a scope of its own remembers too', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const flow = parseFlowData({});
    await runNode(diaflowNode, settingsFor(inbox), { flow });
    expect(statusOf(await runNode(diaflowNode, settingsFor(inbox), { flow }))).toBe('duplicate');
  });
});
