import { createTestCertificates, OAuthServer, RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { childConfigs, execute } from './cognigy-host.test-support.ts';
import extension from './module.ts';

const [node] = extension.nodes;
const users = { 'robot@example.com': 'open sesame' };

/** What the form hands over: flat, with the values of choices that were not made. */
const config = ({ port }: SmtpInbox, more: object = {}) => ({
  emailService: 'other',
  smtpSettings_host: '127.0.0.1',
  smtpSettings_port: String(port),
  smtpSettings_secure: false,
  to: 'ann@example.com',
  subject: 'Hello',
  content: '<p>It works.</p>',
  authentication_type: 'basic',
  basicAuth: { username: 'robot@example.com', password: 'open sesame' },
  clientCredentials: null,
  storeResult: 'context',
  contextKey: 'mail',
  stopOnError: false,
  cc: '',
  attachments: '',
  ...more,
});

describe('the form', () => {
  it('lists every field once, all under keys that exist', () => {
    const keys = node?.fields?.map(({ key }) => key) ?? [];
    expect(new Set(keys).size).toBe(keys.length);
    const inSections = node?.sections?.flatMap(({ fields }) => fields) ?? [];
    const alone = node?.form?.filter(({ type }) => type === 'field').map(({ key }) => key) ?? [];
    expect([...alone, ...inSections]).toEqual(keys);
    expect(keys.join()).not.toMatch(/\.|password|Secret/);
    for (const { condition } of node?.fields ?? [])
      for (const key of JSON.stringify(condition ?? {}).matchAll(/"key":"(\w+)"/g))
        expect(keys).toContain(key[1]);
  });

  it('has a connection for each way to log in', () => {
    const types = extension.connections.map(({ type }) => type);
    const wanted = node?.fields
      ?.filter(({ type }) => type === 'connection')
      .map(({ params }) => params?.connectionType);
    expect(wanted).toEqual(types);
  });
});

describe('an execution', () => {
  it('sends, stores the receipt and takes the branch for what was sent', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const more = {
      attachments: [{ type: 'text', content: 'file', filename: 'a.txt' }],
      subject: '{{ input.secret }} stays',
    };
    const { calls, thrown } = await execute(config(inbox, more), { input: { secret: 'x' } });
    expect(thrown).toBeUndefined();
    expect(calls).toMatchObject([
      ['addToContext', 'mail', { status: 'sent', accepted: ['ann@example.com'] }, 'simple'],
      ['setNextNode', childConfigs[0]?.id],
    ]);
    expect(inbox.messages[0]).toMatchObject({
      subject: '{{ input.secret }} stays',
      attachments: [{ filename: 'a.txt' }],
    });
    expect(JSON.stringify(calls)).not.toContain('open sesame');
  });

  it('gets a token for client credentials, and logs in with it over TLS', async () => {
    const { valid, authority } = await createTestCertificates();
    await using issuer = await OAuthServer.start({ secrets: { app: 'hunter2' } });
    await using inbox = await SmtpInbox.start({
      ...{ tls: 'implicit', certificate: valid, authMethods: ['XOAUTH2'], tokens: {} },
    });
    const clientCredentials = {
      ...{ user: 'robot@example.com', clientId: 'app', clientSecret: 'hunter2', scope: '' },
      tokenEndpointUrl: issuer.tokenEndpoint,
    };
    const more = {
      authentication_type: 'oauth2-client-credentials',
      clientCredentials,
      smtpSettings_secure: true,
    };
    const tlsOptions = { ca: authority.cert };
    const { calls } = await execute(
      config(inbox, { ...more, tlsOptions, storeResult: 'input', inputKey: 'mail' }),
    );
    // Its server knows no token, so another one was asked for, and that was it.
    expect(inbox.authAttempts).toEqual(['XOAUTH2', 'XOAUTH2']);
    expect(issuer.requests).toHaveLength(2);
    const error = expect.objectContaining({ code: 'AUTH_REFUSED' });
    expect(calls).toContainEqual(['addToInput', 'mail', { error }]);
    expect(JSON.stringify(calls)).not.toContain('hunter2');
  });

  it('stores a failure, says it in the log, and takes the other branch', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const { calls, thrown } = await execute(config(inbox, { to: 'nobody' }));
    expect(thrown).toBeUndefined();
    expect(calls).toMatchObject([
      ['log', 'error', expect.stringMatching(/^ADDRESS_INVALID: to/)],
      ['addToContext', 'mail', { error: { code: 'ADDRESS_INVALID', retryable: false } }, 'simple'],
      ['setNextNode', childConfigs[1]?.id],
    ]);
  });

  it('ends with the failure where it is to stop', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const { calls, thrown } = await execute(config(inbox, { basicAuth: undefined, stopOnError: true }));
    expect(thrown).toMatch(/^INPUT_INVALID: .*connection/);
    const names = calls.map(([name]) => name);
    expect(names).toEqual(['log', 'addToContext', 'resetNextNodes', 'stopExecution']);
  });

  // Longer than anything else takes.
  it.runIf(process.env.FLOWPOST_SOAK)(
    'says before Cognigy ends it that a server did not answer in time',
    async () => {
      await using inbox = await SmtpInbox.start({
        users,
        refuse: { message: () => new Promise(() => undefined) },
      });
      const { calls } = await execute(config(inbox));
      expect(calls).toContainEqual([
        'addToContext',
        'mail',
        { error: expect.objectContaining({ inDoubt: true }) },
        'simple',
      ]);
    },
  );

  it('stores the beginning of what is more than Cognigy has room for', async () => {
    const to = Array.from({ length: 1_000 }, (_, index) => `${'x'.repeat(50)}${index}@example.com`);
    const reply = { code: 550, text: `5.1.1 ${'nö '.repeat(300)}` };
    await using inbox = await SmtpInbox.start({
      users,
      refuse: { rcptTo: (address) => (address.includes('x7') ? reply : undefined) },
    });
    const { calls } = await execute(config(inbox, { to: to.join(', ') }));
    const [stored = []] = calls.filter(([name]) => name === 'addToContext');
    expect(stored[2]).toMatchObject({ status: 'partial', acceptedCount: 889, rejectedCount: 111 });
    expect((stored[2] as { rejected: unknown[] }).rejected.length).toBeGreaterThan(5);
    expect(JSON.stringify(stored).length).toBeLessThan(8_200);
  });

  it.each(['addToContext', 'setNextNode', 'log'])('says what it can when %s fails', async (name) => {
    await using inbox = await SmtpInbox.start({ users });
    const { calls, thrown } = await execute(config(inbox), { throwing: [name] });
    expect(thrown).toBeUndefined();
    expect(calls.map(([one]) => one)).toEqual(expect.arrayContaining(['addToContext', 'setNextNode']));
    expect(inbox.messages).toHaveLength(1);
  });

  it.each([
    ['text in a JSON field', { attachments: '[{"type":"text","content":"x","filename":"a.txt"}]' }, 1],
    ['one attachment', { attachments: { type: 'text', content: 'x', filename: 'a.txt' } }, 1],
    ['a JSON field that was opened and left', { attachments: {}, tlsOptions: '{}' }, 0],
  ])('takes %s', async (_, more, count) => {
    await using inbox = await SmtpInbox.start({ users });
    const { calls } = await execute(config(inbox, more));
    expect(calls.at(-1)).toEqual(['setNextNode', childConfigs[0]?.id]);
    expect(inbox.messages[0]?.attachments).toHaveLength(count);
  });

  it('fetches attachments', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const attachments = [{ type: 'url', url: 'https://nowhere.invalid/a.png' }];
    const [[, , said] = []] = (await execute(config(inbox, { attachments }))).calls;
    // As far as a network is needed.
    expect(said).toMatch(/^ATTACHMENT_NOT_FOUND: /);
  });

  it('keeps what a person needs of a failure that is too long', async () => {
    const to = Array.from({ length: 250 }, (_, index) => `${'x'.repeat(40)}${index}@example.com`);
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command !== '.') return undefined;
        socket.end();
        return null;
      }),
    );
    const away = {
      basicAuth: undefined,
      customFrom: 'robot@example.com',
      to: to.join(),
      smtpSettings_port: server.port,
    };
    const { calls } = await execute({
      ...config({ port: 0 } as SmtpInbox),
      ...away,
      authentication_type: 'basic',
    });
    const [stored = []] = calls.filter(([name]) => name === 'addToContext');
    const { error } = stored[2] as { error: { details: { messageId: string; unconfirmed: string[] } } };
    expect(error.details.messageId).toMatch(/^<.*>$/);
    expect(error.details.unconfirmed.length).toBeGreaterThan(10);
    expect(JSON.stringify(stored).length).toBeLessThan(8_200);
  });

  it('does not look at fields that the form hides', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const { calls } = await execute(config(inbox, { storeResult: 'none', contextKey: 7, inputKey: {} }));
    expect(calls).toEqual([['setNextNode', childConfigs[0]?.id]]);
    const hidden = {
      emailService: 'Gmail',
      smtpSettings_host: 'no host',
      smtpSettings_port: 'x',
      to: 'nobody',
    };
    const [[, , said] = []] = (await execute(config(inbox, hidden))).calls;
    expect(said).toMatch(/^ADDRESS_INVALID: to/);
  });

  it('writes nothing where there is no place for a result', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const context = { mail: 'text' };
    for (const contextKey of ['mail.result', '', '__proto__.x']) {
      const { calls } = await execute(config(inbox, { contextKey }), { context });
      expect(calls.map(([name]) => name)).toEqual(['log', 'setNextNode']);
    }
    expect(inbox.messages).toEqual([]);
  });

  it('says what should be changed about settings that work', async () => {
    await using inbox = await SmtpInbox.start();
    const oauth2 = { user: 'robot@example.com', accessToken: 'a', tlsOption: 'none' };
    const { calls } = await execute(
      config(inbox, { authentication_type: 'oauth2', oauth2, allowPlaintextAuth: true }),
    );
    expect(calls).toContainEqual(['log', 'warn', expect.stringContaining('deprecated')]);
  });
});
