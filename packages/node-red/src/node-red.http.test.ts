import { createTestCertificates, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FlowNode, RealNodeRed } from './node-red.test-support.ts';

let engine: RealNodeRed;
beforeAll(async () => {
  engine = await RealNodeRed.start();
});
afterAll(() => engine[Symbol.asyncDispose]());

/** Shows the test what comes out of a node, and what a Catch node gets. */
const show = "global.get('seen')({ ...msg, by: node.name });";

/** A flow with one node that sends over a server. */
function flow(
  connection: Readonly<Record<string, unknown>>,
  properties: Readonly<Record<string, unknown>> = {},
): FlowNode[] {
  // Without a place a node is taken for the configuration of others.
  const part = { z: 'tab', x: 10, y: 10 };
  const functionNode = { ...part, type: 'function', func: show, outputs: 0, timeout: 0, wires: [] };
  return [
    { id: 'tab', type: 'tab', label: 'mail' },
    { id: 'server', type: 'flowpost-connection', kind: 'smtp', ...connection },
    {
      ...{ ...part, id: 'mail', type: 'flowpost-send', connection: 'server', from: 'ann@example.com' },
      ...{ fromType: 'str', stopOnError: true, loopGuard: true, wires: [['sent']] },
      ...properties,
    },
    { ...functionNode, id: 'sent', name: 'sent' },
    { ...part, id: 'catch', type: 'catch', scope: ['mail'], wires: [['caught']] },
    { ...functionNode, id: 'caught', name: 'caught' },
  ];
}

const at = ({ port }: SmtpInbox) => ({ host: '127.0.0.1', port: String(port), tls: 'auto' });

describe('the package in Node-RED', () => {
  it('is loaded with both nodes, and brings their forms', async () => {
    const sets = JSON.parse(await engine.get('nodes'));
    const own = sets.find(({ module }: { module: string }) => module === '@flowpost/node-red');
    expect(own).toMatchObject({ types: ['flowpost-connection', 'flowpost-send'], enabled: true });
    expect(own.err).toBeUndefined();
    const forms = await engine.forms();
    expect(forms).toContain('data-template-name="flowpost-send"');
    expect(forms).toContain('id="node-config-input-clientSecret"');
  });

  it('sends what other nodes have put into the message, and hands it on with the receipt', async () => {
    await using inbox = await SmtpInbox.start();
    await engine.deploy(flow(at(inbox)));
    const attachments = [{ filename: 'a.txt', content: Buffer.from('file'), contentType: 'text/plain' }];
    const given = { to: 'ben@example.com', topic: 'Hi', payload: 'Hello', attachments, kept: 7 };
    const [message] = await engine.run('mail', [given]);
    expect(message).toMatchObject({ by: 'sent', kept: 7, email: { status: 'sent' } });
    const [mail] = inbox.messages;
    expect(mail).toMatchObject({ subject: 'Hi', envelope: { to: ['ben@example.com'] } });
    expect(mail?.attachments[0]).toMatchObject({ filename: 'a.txt', content: Buffer.from('file') });
    expect(engine.statuses.at(-1)).toMatchObject({ id: 'mail', status: { text: 'sent' } });
  });

  it('works out expressions of its author, and never those of a message', async () => {
    await using inbox = await SmtpInbox.start();
    const properties = {
      ...{ subject: 'Order {{ msg.order.id }}', subjectType: 'str' },
      ...{ html: '<b>{{ msg.name }}</b>', htmlType: 'str' },
      ...{ to: 'people.address', toType: 'jsonata' },
      ...{ headers: '{"X-Step":"7"}', headersType: 'json' },
    };
    await engine.deploy(flow(at(inbox), properties));
    const payload = '{{ msg.secret }} stays';
    const people = [{ address: 'ben@example.com' }, { address: 'cy@example.com' }];
    await engine.run('mail', [{ order: { id: 42 }, name: '<Ann>', secret: 'x', payload, people }]);
    const [mail] = inbox.messages;
    expect(mail).toMatchObject({ subject: 'Order 42', text: '{{ msg.secret }} stays' });
    expect(mail?.envelope.to).toEqual(['ben@example.com', 'cy@example.com']);
    expect(mail?.html).toContain('<b>&lt;Ann&gt;</b>');
    expect(mail?.raw.toString()).toContain('\r\nX-Step: 7\r\n');
  });

  it('logs in with credentials, which are nowhere in the flows, and uses few sessions for many messages', async () => {
    await using inbox = await SmtpInbox.start({ users: { robot: 'open sesame' } });
    await engine.deploy(flow({ ...at(inbox), user: 'robot', credentials: { password: 'open sesame' } }));
    const messages = Array.from({ length: 200 }, (_, index) => ({
      to: 'b@x.org',
      topic: `${index}`,
      payload: 'x',
    }));
    const outcomes = await engine.run('mail', messages);
    expect(outcomes.every(({ by }) => by === 'sent')).toBe(true);
    expect(new Set(inbox.messages.map(({ subject }) => subject)).size).toBe(200);
    expect(inbox.logins.length).toBeLessThanOrEqual(5);
    expect(await engine.get('flows')).not.toContain('open sesame');
  });

  it('takes data from the environment, and sends to nobody when a sandbox is wanted and there is none', async () => {
    await using inbox = await SmtpInbox.start();
    process.env.FLOW_SANDBOX = '{"redirectTo":"dev@x.org"}';
    process.env.FLOW_HEADERS = '{"X-Env":"1"}';
    const sources = { sandboxType: 'env', headers: 'FLOW_HEADERS', headersType: 'env' };
    await engine.deploy(flow(at(inbox), { ...sources, sandbox: 'FLOW_SANDBOX' }));
    await engine.run('mail', [{ to: 'real@x.org', payload: 'x' }]);
    expect(inbox.messages).toMatchObject([{ envelope: { to: ['dev@x.org'] } }]);
    expect(inbox.messages[0]?.headers.get('x-env')).toEqual(['X-Env: 1']);
    for (const missing of [
      { sandbox: 'FLOW_NOTHING', sandboxType: 'env' },
      { sandbox: 'nothing', sandboxType: 'msg' },
      { sandbox: '{}', sandboxType: 'json' },
    ]) {
      await engine.deploy(flow(at(inbox), missing));
      const [message] = await engine.run('mail', [{ to: 'real@x.org', payload: 'x' }]);
      expect(message).toMatchObject({ by: 'caught', error: { message: expect.stringContaining('sandbox') } });
    }
    expect(inbox.messages).toHaveLength(1);
  });

  it('has forms that check what is typed, and names a mail server by what it is', async () => {
    const forms = await engine.forms();
    const [script = ''] =
      /RED\.nodes\.registerType\('?"?flowpost-connection[\s\S]*?<\/script>/.exec(forms) ?? [];
    interface Registered {
      readonly defaults: Readonly<Record<string, { validate?: (value: unknown) => boolean }>>;
      readonly label: () => string;
    }
    const types = new Map<string, Registered>();
    const red = {
      nodes: { registerType: (name: string, type: Registered) => types.set(name, type) },
    };
    new Function('RED', '$', script.replace('</script>', ''))(red, () => ({ val: () => undefined }));
    const { defaults, label } = types.get('flowpost-connection') as Registered;
    const check = (name: string, value: unknown, node: object = {}) =>
      defaults[name]?.validate?.call(node, value);
    const valid = (name: string, values: readonly unknown[]) => values.filter((value) => check(name, value));
    expect(valid('port', ['587', '', `\${PORT}`, 587, undefined, 'abc', '1,5'])).toHaveLength(5);
    const options = [undefined, '', {}, '{"ca":"x"}', `\${TLS}`, '{bad', '[1]', '7'];
    expect(valid('tlsOptions', options)).toHaveLength(5);
    expect(check('tlsOptions', '{bad', { kind: 'other' })).toBe(true);
    expect([check('host', ''), check('host', 'x'), check('host', '', { kind: 'other' })]).toEqual([
      false,
      true,
      true,
    ]);
    expect(types.get('flowpost-send')?.defaults.timeoutMs?.validate?.('abc')).toBe(false);
    const named = (node: object) => label.call(node);
    expect(named({ kind: 'smtp', host: 'a' })).toBe('a');
    expect(named({ host: 'a' })).toBe('a');
    expect(named({ kind: 'microsoft365', host: 'old' })).toBe('Microsoft 365');
    expect(named({ kind: 'other', host: 'old' })).toBe('mail server');
  });

  it('trusts a private authority, as its form says', async () => {
    const { authority, valid: certificate } = await createTestCertificates();
    await using inbox = await SmtpInbox.start({ tls: 'starttls', certificate });
    const tlsOptions = JSON.stringify({ ca: authority.cert, serverName: 'localhost' });
    await engine.deploy(flow({ ...at(inbox), tls: 'starttls', tlsOptions, allowPlaintextAuth: false }));
    const [message] = await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }]);
    expect(message).toMatchObject({ by: 'sent' });
    expect(inbox.messages).toMatchObject([{ secure: true }]);
  });

  it('takes any connection as a URL or as JSON', async () => {
    await using inbox = await SmtpInbox.start({ users: { robot: 'a{b' } });
    const auth = { kind: 'basic', username: 'robot', password: 'a{b' };
    const connection = JSON.stringify({ host: '127.0.0.1', port: inbox.port, tls: 'none', auth });
    await engine.deploy(flow({ kind: 'other', credentials: { connection } }));
    await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }]);
    expect(inbox.messages).toHaveLength(1);
  });

  it('gives a failure to a Catch node, with a code and what to do', async () => {
    await using inbox = await SmtpInbox.start({
      refuse: {
        rcptTo: (address) => (address === 'no@x.org' ? { code: 550, text: '5.1.1 no such user' } : undefined),
      },
    });
    await engine.deploy(flow(at(inbox)));
    const [message] = await engine.run('mail', [{ to: 'no@x.org', payload: 'x' }]);
    expect(message).toMatchObject({
      by: 'caught',
      error: { code: 'RECIPIENTS_REFUSED', source: { id: 'mail' } },
      email: { error: { retryable: false, inDoubt: false } },
    });
    const [partial] = await engine.run('mail', [{ to: 'no@x.org, yes@x.org', payload: 'x' }]);
    expect(partial).toMatchObject({ by: 'sent', email: { status: 'partial', accepted: ['yes@x.org'] } });
  });

  it('lets the flow go on after a failure when told so', async () => {
    await engine.deploy(
      flow(
        { host: '127.0.0.1', port: '1', tls: 'none' },
        { stopOnError: false, retry: '{"attempts":1}', retryType: 'json' },
      ),
    );
    const [message] = await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }]);
    expect(message).toMatchObject({
      by: 'sent',
      email: { error: { code: 'CONNECTION_REFUSED', retryable: true } },
    });
  });

  it.each([
    ['no connection', {}, { connection: '' }, 'CONNECTION_INVALID'],
    [
      'JSON that is none',
      { kind: 'other', credentials: { connection: '{"host": secret' } },
      {},
      'CONNECTION_INVALID',
    ],
    ['an expression that is none', {}, { to: '((', toType: 'jsonata' }, 'DYNAMIC_FIELD_INVALID'],
    ['JSON in a field that is none', {}, { headers: '{', headersType: 'json' }, 'DYNAMIC_FIELD_INVALID'],
  ])('survives %s', async (_what, connection, properties, code) => {
    await engine.deploy(flow(connection, properties));
    const [message] = await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }]);
    expect(message).toMatchObject({ by: 'caught', error: { code } });
    expect(JSON.stringify(message)).not.toContain('secret');
  });

  it('goes on after a mistake in its settings too, when told so', async () => {
    await engine.deploy(flow({}, { stopOnError: false, to: '((', toType: 'jsonata' }));
    const [message] = await engine.run('mail', [{ payload: 'x' }]);
    expect(message).toMatchObject({ by: 'sent', email: { error: { retryable: false } } });
  });

  it('reads no file that a message names', async () => {
    await using inbox = await SmtpInbox.start();
    await engine.deploy(flow(at(inbox)));
    const attachments = [{ path: '/etc/passwd' }];
    const [message] = await engine.run('mail', [{ to: 'b@x.org', payload: 'x', attachments }]);
    expect(message).toMatchObject({ by: 'caught', error: { code: 'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS' } });
    expect(inbox.messages).toEqual([]);
  });

  it('does not answer a message of "email in" to where it came from', async () => {
    await using inbox = await SmtpInbox.start();
    await engine.deploy(flow(at(inbox)));
    const received = { from: 'Eve <eve@x.org>', header: { 'message-id': '<1@x.org>' }, payload: 'x' };
    const [message] = await engine.run('mail', [{ ...received, to: 'eve@x.org' }]);
    expect(message).toMatchObject({ by: 'caught', error: { code: 'MAIL_LOOP_BLOCKED' } });
    const [forwarded] = await engine.run('mail', [{ ...received, to: 'boss@x.org' }]);
    expect(forwarded).toMatchObject({ by: 'sent' });
    expect(inbox.messages[0]?.raw.toString()).toContain('Auto-Submitted: auto-generated');
  });

  it('takes messages as other nodes make them', async () => {
    await using inbox = await SmtpInbox.start();
    await engine.deploy(flow(at(inbox)));
    const to = 'b@x.org';
    const picture = {
      filename: 'p.png',
      content: Buffer.from('p'),
      contentId: '<p@x>',
      cid: 'p@x',
      related: true,
    };
    const messages = [
      { to: [to, 'c@x.org'], payload: Buffer.from('bytes'), attachments: null },
      { to, payload: { data: 1 }, html: false },
      { to, html: '<img src="cid:p@x">', attachments: [picture] },
      { to, payload: 'x', attachments: { filename: 'a.bin', content: 'aGk=', encoding: 'base64' } },
      Object.defineProperty({ to, payload: 'x' }, 'email', { value: 1, enumerable: true }),
    ];
    for (const message of messages)
      expect(await engine.run('mail', [message])).toMatchObject([{ by: 'sent' }]);
    const [first, second, third, fourth] = inbox.messages;
    expect(first).toMatchObject({ text: 'bytes\n', envelope: { to: [to, 'c@x.org'] } });
    expect(second).toMatchObject({ text: '{"data":1}\n' });
    expect(third?.attachments[0]).toMatchObject({ contentId: 'p@x' });
    expect(fourth?.attachments[0]?.content).toEqual(Buffer.from('hi'));
    expect(inbox.messages).toHaveLength(5);
  });

  it('takes fields that were left empty for what they are, and data for data', async () => {
    await using inbox = await SmtpInbox.start();
    const properties = {
      ...{
        cc: '',
        ccType: 'json',
        bcc: ' ',
        bccType: 'jsonata',
        retry: '{"attempts":2}',
        headers: '{"X-A":"1"}',
      },
      ...{ inReplyTo: 'header.message-id', inReplyToType: 'msg' },
    };
    await engine.deploy(flow(at(inbox), properties));
    expect(await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }])).toMatchObject([{ by: 'sent' }]);
    expect(inbox.messages[0]?.raw.toString()).toContain('\r\nX-A: 1\r\n');
  });

  it('keeps what logs in from whoever writes a flow', async () => {
    await using inbox = await SmtpInbox.start({ users: { robot: 'open sesame' } });
    const server = { ...at(inbox), user: 'robot', credentials: { password: 'open sesame' } };
    for (const path of ['variables.connection', 'variables.connection.auth.password', 'connection']) {
      await engine.deploy(flow(server, { subject: `{{ ${path} }}`, subjectType: 'str' }));
      const [message] = await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }]);
      expect(message).toMatchObject({ by: 'caught', error: { code: 'DYNAMIC_FIELD_MISSING' } });
    }
    expect(inbox.messages).toEqual([]);
  });

  it('logs in as what is written there, whatever it looks like', async () => {
    await using inbox = await SmtpInbox.start({ users: { 'ro{{bot': 'a{{b}}' } });
    const server = { ...at(inbox), port: inbox.port, user: 'ro{{bot', credentials: { password: 'a{{b}}' } };
    await engine.deploy(flow(server));
    expect(await engine.run('mail', [{ to: 'b@x.org', payload: 'x' }])).toMatchObject([{ by: 'sent' }]);
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const [message] = await engine.run('mail', [{ to: 'b@x.org', payload: circular }]);
    expect(message).toMatchObject({ by: 'caught', error: { code: 'DYNAMIC_FIELD_INVALID' } });
  });

  it.each([
    ['a list', { list: { id: { id: 'l.x.org' } } }],
    ['an empty path', { 'return-path': { value: [{ address: '', name: '' }], text: '' } }],
  ])('does not answer mail of %s', async (_, header) => {
    await engine.deploy(flow({ host: '127.0.0.1', port: '1' }));
    const received = { from: 'eve@x.org', header: new Map(Object.entries(header)), payload: 'x' };
    const [message] = await engine.run('mail', [{ ...received, to: 'boss@x.org' }]);
    expect(message).toMatchObject({ by: 'caught', error: { code: 'MAIL_LOOP_AUTOMATIC' } });
  });

  it('does not answer to a group that the sender names', async () => {
    await engine.deploy(flow({ host: '127.0.0.1', port: '1' }));
    const group = {
      value: [{ name: 'Team', group: [{ address: 'boss@x.org', name: '' }] }],
      text: 'Team: boss@x.org;',
    };
    const received = { from: 'eve@x.org', header: new Map([['reply-to', group]]), payload: 'x' };
    const [message] = await engine.run('mail', [{ ...received, to: 'boss@x.org' }]);
    expect(message).toMatchObject({ by: 'caught', error: { code: 'MAIL_LOOP_BLOCKED' } });
  });

  it('finishes what is under way when flows are deployed anew', async () => {
    let begun: () => void = () => undefined;
    const underWay = new Promise<void>((resolve) => {
      begun = resolve;
    });
    let goOn: () => void = () => undefined;
    const held = new Promise<undefined>((resolve) => {
      goOn = () => resolve(undefined);
    });
    await using inbox = await SmtpInbox.start({
      refuse: {
        message: () => {
          begun();
          return held;
        },
      },
    });
    await engine.deploy(flow(at(inbox)));
    const ended = engine.run('mail', [{ to: 'b@x.org', payload: 'x' }]);
    await underWay;
    const deployed = engine.deploy([]);
    goOn();
    await deployed;
    expect(inbox.messages).toHaveLength(1);
    void ended;
  });
});
