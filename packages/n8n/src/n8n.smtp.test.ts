import { createTestCertificates, FaultServer, SmtpInbox } from '@flowpost/testing';
import type { ICredentialDataDecryptedObject } from 'n8n-workflow';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RealN8n, type RunOptions } from './n8n.test-support.ts';

let engine: RealN8n;
beforeAll(async () => {
  engine = await RealN8n.start();
});
afterAll(() => engine[Symbol.asyncDispose]());

const at = ({ port }: { readonly port: number }): ICredentialDataDecryptedObject => ({
  ...{ kind: 'smtp', host: '127.0.0.1', port, tls: 'auto', from: 'ann@example.com' },
});

/** One attempt of ours, so that what tries again is n8n. */
const options = { retry: '{"attempts":1}' };
const fields = { to: '={{ $json.to }}', subject: '={{ $json.subject }}', text: 'Hello', options };

/** Runs the node for an item for each address, with subjects 0, 1, 2 ... */
const run = (
  server: { readonly port: number },
  addresses: readonly string[],
  { parameters, ...more }: Partial<RunOptions> = {},
) =>
  engine.run({
    items: addresses.map((to, index) => ({ json: { to, subject: `${index}` } })),
    ...{ credential: at(server), parameters: { ...fields, ...parameters }, ...more },
  });

const retried = { retryOnFail: true, maxTries: 3, waitBetweenTries: 1 };
const goesOn = { onError: 'continueRegularOutput' } as const;
const subjects = (inbox: SmtpInbox) => inbox.messages.map(({ subject }) => subject).sort();

/** An inbox that refuses each recipient that begins with `no` for so many times. */
const refusing = (times: number, code = 451) => {
  const left = new Map<string, number>();
  return SmtpInbox.start({
    refuse: {
      rcptTo(address) {
        const more = left.get(address) ?? times;
        left.set(address, more - 1);
        return address.startsWith('no') && more > 0 ? { code, text: 'refused' } : undefined;
      },
    },
  });
};

describe('the package in n8n', () => {
  it('is loaded with its node and its credential, whose secrets are hidden', () => {
    const { description } = engine.node;
    expect(description.credentials).toEqual([
      { name: 'flowpostMailServer', required: true, testedBy: 'testMailServer' },
    ]);
    expect(description.iconUrl).toMatch(/flowpost\.svg$/);
    expect(description.properties.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['from', 'to', 'subject', 'html', 'text', 'attachments', 'options']),
    );
    // Each try of a tool is a run of its own to n8n, so that what was sent before would be sent again.
    expect(description.usableAsTool).toBeUndefined();
    const { type } = engine.loader.getCredential('flowpostMailServer');
    expect(type.iconUrl).toMatch(/credentials\/flowpost\.svg$/);
    const hidden = type.properties.filter(({ typeOptions }) => typeOptions?.password);
    expect(hidden.map(({ name }) => name)).toEqual(['clientSecret', 'password', 'connection']);
    expect(type.supportedNodes).toEqual(['flowpostSendEmail']);
    expect(engine.loader.known.nodes.flowpostSendEmail?.sourcePath).toMatch(/FlowpostSendEmail\.node\.js$/);
  });

  it('sends for each item, in few sessions, and hands on the receipts in their order', async () => {
    await using inbox = await SmtpInbox.start({ users: { robot: 'open sesame' } });
    const credential = { ...at(inbox), user: 'robot', password: 'open sesame' };
    const to = Array.from({ length: 200 }, (_, index) => `p${index}@x.org`);
    const { outputs, run: ended } = await run(inbox, to, { credential });
    expect(ended.status).toBe('success');
    expect(outputs[0]?.map(({ json, pairedItem }) => [json.accepted, pairedItem])).toEqual(
      to.map((one, item) => [[one], { item }]),
    );
    expect(inbox.messages).toHaveLength(200);
    expect(inbox.logins.length).toBeLessThanOrEqual(5);
    await run(inbox, to.slice(0, 5), { credential });
    expect(inbox.logins.length).toBeLessThanOrEqual(5);
    expect(JSON.stringify(ended)).not.toContain('open sesame');
  });

  it('looks for no expressions in what the items bring', async () => {
    await using inbox = await SmtpInbox.start();
    await run(inbox, ['ben@x.org'], {
      parameters: { subject: '={{ $json.to }} {{ "{" + "{ input.x }" + "}" }}' },
    });
    expect(subjects(inbox)).toEqual(['ben@x.org {{ input.x }}']);
  });

  it('takes the options of the form, and those left empty for what they are', async () => {
    await using inbox = await SmtpInbox.start();
    const more = {
      ...{ cc: 'Cy <cy@x.org>, di@x.org', bcc: '', html: '<b>Hello</b>', attachments: '' },
      options: { ...options, headers: '{"X-Step":"7"}', calendar: '{}', replyTo: '', priority: 'high' },
    };
    const { outputs } = await run(inbox, ['ben@x.org'], { parameters: more });
    expect(outputs[0]).toMatchObject([{ json: { status: 'sent' } }]);
    const [mail] = inbox.messages;
    expect(mail?.envelope).toEqual({ from: 'ann@example.com', to: ['ben@x.org', 'cy@x.org', 'di@x.org'] });
    expect(mail?.raw.toString()).toMatch(/\r\nX-Step: 7\r\n/);
    expect(mail).toMatchObject({ html: expect.stringContaining('<b>Hello</b>'), text: 'Hello' });
  });

  it('attaches files of the item by their names, and what expressions make', async () => {
    await using inbox = await SmtpInbox.start();
    const file = (text: string, fileName?: string) => ({
      ...{ data: Buffer.from(text).toString('base64'), mimeType: 'text/csv', ...(fileName && { fileName }) },
    });
    const items = [
      { json: { to: 'b@x.org', subject: '0' }, binary: { data: file('a', 'a.csv'), more: file('b') } },
    ];
    const given = (attachments: string) => run(inbox, [], { items, parameters: { attachments } });
    await given('data, more');
    await given(
      '={{ [$("Source").item.binary.data, "more", { kind: "text", content: "c", filename: "c.txt" }] }}',
    );
    const found = inbox.messages.map(({ attachments }) =>
      attachments.map(({ filename, content }) => [filename, content.toString()]),
    );
    const both = [
      ['a.csv', 'a'],
      ['more', 'b'],
    ];
    expect(found).toEqual([both, [...both, ['c.txt', 'c']]]);
    const { run: failed } = await given('data, missing');
    expect(failed.data.resultData.error?.message).toContain('no file in "missing"');
    const { run: outside } = await given('={{ [{ kind: "file", path: "/etc/passwd" }] }}');
    expect(outside.data.resultData.error).toMatchObject({
      context: { data: { code: 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS' } },
    });
    expect(inbox.messages).toHaveLength(2);
  });

  it('stops at a failure, and says what to do and what became of the others', async () => {
    await using inbox = await refusing(9, 550);
    const { run: ended } = await run(inbox, ['a@x.org', 'no@x.org', 'c@x.org']);
    expect(ended.status).toBe('error');
    expect(ended.data.resultData.error).toMatchObject({
      name: 'NodeOperationError',
      message: expect.stringContaining('550 refused'),
      description: expect.stringMatching(/Of 3 items, 2 were sent\. \(RECIPIENTS_REFUSED\)$/),
      context: { itemIndex: 1, data: { code: 'RECIPIENTS_REFUSED', retryable: false, inDoubt: false } },
    });
  });

  it('keeps its own words where n8n has others', async () => {
    const { run: ended } = await run({ port: 1 }, ['a@x.org']);
    const error = ended.data.resultData.error;
    expect(error?.context?.data).toMatchObject({ code: 'CONNECTION_REFUSED' });
    expect(error?.message).toContain('127.0.0.1:1');
  });

  it.each([
    ['continueRegularOutput', 0],
    ['continueErrorOutput', 1],
  ] as const)('goes on with "%s", and tells what the flow can go by', async (onError, output) => {
    await using inbox = await refusing(9, 550);
    const { outputs, run: ended } = await run(inbox, ['no@x.org', 'b@x.org'], { node: { onError } });
    expect(ended.status).toBe('success');
    const failed = outputs[output]?.find(({ json }) => json.error !== undefined);
    expect(failed?.json).toMatchObject({
      error: expect.stringContaining('550 refused'),
      details: {
        ...{ code: 'RECIPIENTS_REFUSED', retryable: false, inDoubt: false },
        details: { rejected: [{ address: 'no@x.org', code: 550 }] },
      },
    });
    expect(outputs[0]?.at(-1)).toMatchObject({ json: { status: 'sent' }, pairedItem: { item: 1 } });
  });

  it.each([
    ['stopping', {}],
    ['going on', goesOn],
  ])('is tried again by n8n without sending anything twice, %s', async (_, node) => {
    await using inbox = await refusing(2);
    const to = ['no1@x.org', 'b@x.org', 'c@x.org', 'no2@x.org'];
    const { outputs, run: ended } = await run(inbox, to, { node: { ...retried, ...node } });
    expect(ended.status).toBe('success');
    expect(subjects(inbox)).toEqual(['0', '1', '2', '3']);
    expect(outputs[0]?.map(({ json }) => [json.status, json.accepted])).toEqual(
      to.map((one) => ['sent', [one]]),
    );
  });

  it('does not send again what may have been sent', async () => {
    await using server = await FaultServer.start({ stage: 'dot', fault: 'rst', times: 1 });
    const { run: ended } = await run(server, ['a@x.org'], { node: retried });
    expect(ended.data.resultData.error?.context?.data).toMatchObject({ inDoubt: true });
    expect(server.messages).toHaveLength(1);
  });

  it('sends again in another execution, and in another run of the same', async () => {
    await using inbox = await refusing(2);
    const to = ['a@x.org', 'no@x.org'];
    for (const _ of [1, 2]) await run(inbox, to, { node: goesOn });
    expect(subjects(inbox)).toEqual(['0', '0']);
  });

  it('answers nobody whose mail started the workflow', async () => {
    await using inbox = await SmtpInbox.start();
    const source = 'n8n-nodes-base.emailReadImap';
    const simple = { from: 'Eve <eve@x.org>', metadata: { 'message-id': '<1@x.org>' } };
    const resolved = {
      from: { value: [{ address: 'eve@x.org', name: '' }], text: 'eve@x.org' },
      headers: { from: 'From: eve@x.org', 'list-id': 'List-Id: <l.x.org>' },
    };
    const items = (trigger: object, to: string) => [{ json: { ...trigger, to, subject: 'x' } as never }];
    const code = async (trigger: object, to: string) => {
      const { run: ended } = await run(inbox, [], { source, items: items(trigger, to) });
      return (ended.data.resultData.error?.context?.data as { code?: string } | undefined)?.code;
    };
    expect(await code(simple, 'eve@x.org')).toBe('MAIL_LOOP_BLOCKED');
    expect(await code(simple, 'boss@x.org')).toBeUndefined();
    expect(await code(resolved, 'boss@x.org')).toBe('MAIL_LOOP_AUTOMATIC');
    expect(inbox.messages).toHaveLength(1);
  });

  it('answers nobody of several whose mail started the workflow, where nobody knows whose it was', async () => {
    await using inbox = await SmtpInbox.start();
    const source = 'n8n-nodes-base.microsoftOutlookTrigger';
    const address = (one: string) => ({ emailAddress: { address: one } });
    const items = ['bob', 'eve', 'cy'].map((name) => ({
      json: {
        from: address(`${name}@x.org`),
        replyTo: [address(`${name}@reply.org`)],
        sender: address('s@x.org'),
      },
    }));
    /** As the node Aggregate makes one of several. */
    const together = (to: string) => [
      { json: { to, subject: 'x' }, pairedItem: [{ item: 0 }, { item: 1 }, { item: 2 }] },
    ];
    const code = async (to: string, between?: RunOptions['between']) => {
      const given = { items: items.map(({ json }) => ({ json: { ...json, to, subject: 'x' } })), source };
      const { run: ended } = await run(inbox, [], { ...given, ...(between && { between }) });
      return (ended.data.resultData.error?.context?.data as { code?: string } | undefined)?.code;
    };
    for (const to of ['eve@x.org', 'cy@reply.org', 's@x.org'])
      expect(await code(to, () => together(to))).toBe('MAIL_LOOP_BLOCKED');
    expect(inbox.messages).toEqual([]);
    expect(await code('boss@x.org', () => together('boss@x.org'))).toBeUndefined();
    // Of those that are paired, the first one is to who wrote that.
    expect(await code('bob@reply.org')).toBe('MAIL_LOOP_BLOCKED');
    expect(inbox.messages.map(({ envelope }) => envelope.to)).toEqual(
      ['boss@x.org', 'bob@reply.org', 'bob@reply.org'].map((one) => [one]),
    );
  });

  it('sends for each of two nodes, whatever n8n calls them', async () => {
    await using inbox = await refusing(9);
    // With a first item that was sent, n8n does not try again.
    const node = { ...retried, ...goesOn };
    const again = { to: 'boss@x.org', text: 'Again' };
    for (const id of ['m', '']) {
      await run(inbox, ['a@x.org', 'no@x.org'], {
        node: { ...node, id },
        second: { ...node, id, parameters: { ...fields, ...again } },
      });
    }
    const to = inbox.messages.flatMap(({ envelope }) => envelope.to);
    expect(to.toSorted()).toEqual(['a@x.org', 'a@x.org', ...Array.from({ length: 4 }, () => 'boss@x.org')]);
  });

  it.each([
    [
      'a node that is not there',
      { subject: '={{ $("Nope").item.json.x }}' },
      'DYNAMIC_FIELD_INVALID',
      "doesn't exist",
    ],
    ['a syntax that is none', { subject: '={{ $json. }}' }, 'DYNAMIC_FIELD_INVALID', 'subject'],
    ['a date that is none', { subject: '={{ DateTime.fromISO("nope") }}' }, 'DYNAMIC_FIELD_INVALID', 'date'],
    ['another that is none', { subject: '={{ new Date("nope") }}' }, 'DYNAMIC_FIELD_INVALID', 'time'],
  ])('an expression with %s is a mistake of its author', async (_, parameters, code, text) => {
    const { run: ended } = await run({ port: 1 }, ['a@x.org'], { parameters });
    const { message, context } = ended.data.resultData.error ?? {};
    const field = Object.keys(parameters)[0];
    expect(context?.data).toMatchObject({
      code,
      details: { field },
      hint: expect.stringContaining(`"${field}"`),
    });
    expect(message).toContain(text);
  });

  it('a node without a credential says so', async () => {
    const { run: ended } = await run({ port: 1 }, ['a@x.org'], { node: { credentials: {} } });
    expect(ended.data.resultData.error).toMatchObject({
      message: expect.stringContaining('credentials'),
      context: { data: { code: 'CONNECTION_INVALID' } },
    });
  });

  it('takes nothing for nothing, and dates for text', async () => {
    await using inbox = await SmtpInbox.start();
    const date = new Date('2026-11-27T10:00:00Z');
    const items = [{ json: { to: 'b@x.org', subject: '0', date: date as never, none: null } }];
    for (const attachments of ['={{ $json.missing }}', '={{ $json.none }}', '={{ {} }}', '[]'])
      await run(inbox, [], { items, parameters: { attachments, cc: '={{ $json.missing }}' } });
    await run(inbox, [], { items, parameters: { subject: '={{ $now }}', text: '={{ [$json.date][0] }}' } });
    expect(inbox.messages).toHaveLength(5);
    expect(inbox.messages[4]?.subject).toMatch(/^20\d\d-\d\d-\d\dT/);
    const binary = { 0: { data: 'YQ==', mimeType: 'text/plain', fileName: 'a.txt' } };
    await run(inbox, [], {
      items: [{ json: { to: 'b@x.org', subject: 'x' }, binary }],
      parameters: { attachments: '0' },
    });
    expect(inbox.messages[5]?.attachments).toMatchObject([{ filename: 'a.txt' }]);
  });

  it('ends with an execution that is stopped', async () => {
    await using server = await FaultServer.start({ stage: 'mail', fault: 'silence' });
    const stop = new AbortController();
    const running = run(server, ['a@x.org', 'b@x.org'], { stop: stop.signal });
    await expect.poll(() => server.connections).toBeGreaterThan(0);
    stop.abort();
    const { run: ended, outputs } = await running;
    expect(ended.status).toBe('canceled');
    const cancelled = { code: 'SEND_CANCELLED', inDoubt: false };
    expect(outputs[0]?.map(({ json }) => json.details)).toMatchObject([cancelled, cancelled]);
    expect(server.messages).toEqual([]);
  });

  it('tests a credential without sending anything', async () => {
    await using inbox = await SmtpInbox.start({ users: { robot: 'open sesame' } });
    const test = engine.node.methods?.credentialTest?.testMailServer;
    const tried = (data: ICredentialDataDecryptedObject) =>
      test?.call({} as never, { id: '1', name: 'mail', type: 'flowpostMailServer', data });
    const login = { ...at(inbox), user: 'robot', password: 'open sesame' };
    expect(await tried(login)).toMatchObject({ status: 'OK' });
    const refused = await tried({ ...login, password: 'wrong' });
    expect(refused).toMatchObject({ status: 'Error', message: expect.stringMatching(/refused|password/i) });
    expect(await tried({ kind: 'other', connection: '{"secret' })).toMatchObject({ status: 'Error' });
    expect(JSON.stringify([refused, inbox.messages])).toMatch(/^\[.*,\[\]\]$/);
  });

  it.each([{}, '{}', '', '={{ $json.nothing }}', '{"redirectTo":""}'])(
    'sends to nobody when a sandbox is wanted and there is none: %j',
    async (sandbox) => {
      await using inbox = await SmtpInbox.start();
      const parameters = { options: { ...options, sandbox } };
      const { run: ended } = await run(inbox, ['real@customer.org'], { parameters });
      expect(ended.status).toBe('error');
      expect(ended.data.resultData.error?.message).toMatch(/sandbox/);
      expect(inbox.messages).toEqual([]);
    },
  );

  it.each([
    ['retry', { options: { retry: '{bad' } }],
    ['attachments', { attachments: '[{"kind":"text",' }],
  ])('says of %s that it is not JSON', async (name, parameters) => {
    const { run: ended } = await run({ port: 1 }, ['b@x.org'], { parameters });
    expect(ended.data.resultData.error).toMatchObject({
      message: `The field ${name} is not JSON, though it begins so.`,
      context: { data: { code: 'DYNAMIC_FIELD_INVALID' } },
    });
  });

  it('trusts a private authority, as its credential says', async () => {
    const { authority, valid: certificate } = await createTestCertificates();
    await using inbox = await SmtpInbox.start({ tls: 'starttls', certificate });
    const tlsOptions = JSON.stringify({ ca: authority.cert, serverName: 'localhost' });
    const credential = { ...at(inbox), tls: 'starttls', allowPlaintextAuth: false };
    await run(inbox, ['b@x.org'], { credential: { ...credential, tlsOptions } });
    expect(inbox.messages).toMatchObject([{ secure: true }]);
    // What n8n has in a field of JSON that nobody filled in.
    const { run: ended } = await run(inbox, ['c@x.org'], { credential: { ...credential, tlsOptions: '{}' } });
    expect(ended.data.resultData.error?.context?.data).toMatchObject({ code: 'TLS_CERTIFICATE_UNTRUSTED' });
  });

  it('takes any connection as a URL, and says which is none', async () => {
    await using inbox = await SmtpInbox.start();
    const given = (connection: string) =>
      run(inbox, ['b@x.org'], { credential: { kind: 'other', connection } });
    const parameters = { from: 'ann@x.org' };
    await run(inbox, ['b@x.org'], { credential: { kind: 'other', connection: inbox.url }, parameters });
    expect(inbox.messages).toHaveLength(1);
    const { run: ended } = await given('{"password": "hunter2"');
    expect(ended.data.resultData.error?.context?.data).toMatchObject({ code: 'CONNECTION_INVALID' });
    expect(JSON.stringify(ended.data.resultData.error)).not.toContain('hunter2');
  });
});
