import { type Lookup, MemoryTokenStore, type StoredTokens } from '@flowpost/core';
import {
  createTestCertificates,
  HttpServer,
  OAuthServer,
  SmtpInbox,
  type TestCertificates,
} from '@flowpost/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseFlowData } from '../../flow/flow-data.ts';
import { createFlowScope, type FlowScope } from '../../flow/flow-scope.ts';
import type { NodeOutcome } from '../../node.ts';
import { type NodeHost, runNode } from '../../run-node.ts';
import { cognigyNode } from './cognigy.ts';
import type { CognigySettings } from './settings.ts';

const secret = 'client-S3cret';
const flow = parseFlowData({ input: { a: { keep: 1 } }, context: { other: true } });

let certificates: TestCertificates;
beforeAll(async () => {
  certificates = await createTestCertificates();
});

const basic = { type: 'basic', username: 'me@x.org', password: 'pw-S3cret' } as const;
const settingsFor = (
  inbox: { readonly port: number },
  more: Partial<CognigySettings> = {},
): CognigySettings => ({
  emailService: 'other',
  smtpSettings: { host: '127.0.0.1', port: inbox.port, secure: false },
  authentication: basic,
  to: 'Bob <b@x.org>, c@x.org',
  subject: 'Hi',
  content: '<p>Hello</p>',
  ...more,
});
const users = { 'me@x.org': 'pw-S3cret' };

async function run(settings: CognigySettings, host: Partial<NodeHost> = {}): Promise<NodeOutcome> {
  const outcome = await runNode(cognigyNode, settings, { flow, ...host });
  expect(JSON.stringify(outcome)).not.toMatch(/S3cret/);
  return outcome;
}

/** Tokens that the mail server learns of when they are issued, as real ones do by the issuer's signature. */
class LearningStore extends MemoryTokenStore {
  readonly tokens: Record<string, string>;
  readonly entries = new Map<string, StoredTokens>();

  constructor(tokens: Record<string, string>) {
    super();
    this.tokens = tokens;
  }

  override async set(key: string, stored: StoredTokens): Promise<void> {
    const token = stored.accessToken?.reveal();
    if (token !== undefined) this.tokens['me@x.org'] = token;
    this.entries.set(key, stored);
    await super.set(key, stored);
  }
}

async function withOAuth(
  work: (one: {
    issuer: OAuthServer;
    inbox: SmtpInbox;
    scope: FlowScope;
    store: LearningStore;
  }) => Promise<void>,
) {
  const tokens: Record<string, string> = {};
  const store = new LearningStore(tokens);
  await using issuer = await OAuthServer.start({ secrets: { app: secret } });
  await using inbox = await SmtpInbox.start({ tokens });
  await using scope = createFlowScope({ auth: { tokenStore: store } });
  await work({ issuer, inbox, scope, store });
}

const clientCredentials = (issuer: OAuthServer) =>
  ({
    type: 'oauth2-client-credentials',
    connectionName: 'mail',
    tokenEndpointUrl: issuer.tokenEndpoint,
    clientId: 'app',
    clientSecret: secret,
    user: 'me@x.org',
  }) as const;

/** Where a run would connect to; it gets no further. */
async function hostsOf(settings: CognigySettings): Promise<string[]> {
  const hosts: string[] = [];
  const lookup: Lookup = async (host) => {
    hosts.push(host);
    throw Object.assign(new Error('not here'), { code: 'ENOTFOUND' });
  };
  await using scope = createFlowScope({ lookup });
  await run(settings, { scope });
  return hosts;
}

describe('email service', () => {
  it.each([
    ['COG-01', 'Gmail', 'smtp.gmail.com'],
    ['COG-01', 'SendGrid', 'smtp.sendgrid.net'],
    ['COG-02', 'Office365', 'smtp.office365.com'],
    ['COG-02', 'Outlook365', 'smtp.office365.com'],
    ['COG-02', 'Microsoft 365', 'smtp.office365.com'],
  ])('[%s] the known service %s is at %s', async (_, emailService, host) => {
    const { smtpSettings: _unused, ...settings } = settingsFor({ port: 1 }, { emailService });
    expect(await hostsOf(settings)).toEqual([host]);
  });

  it('[COG-03] another service is set up by hand: TLS from the first byte, and STARTTLS where it is offered', async () => {
    const tlsOptions = { ca: certificates.authority.cert };
    for (const tls of ['implicit', 'starttls'] as const) {
      await using inbox = await SmtpInbox.start({ tls, certificate: certificates.valid, users });
      const smtpSettings = { host: 'localhost', port: inbox.port, secure: tls === 'implicit' };
      const outcome = await run(
        settingsFor(inbox, { emailService: 'Other SMTP Service', smtpSettings, tlsOptions }),
      );
      expect(outcome).toMatchObject({ receipt: { status: 'sent' } });
      expect(inbox.messages).toMatchObject([{ secure: true, user: 'me@x.org' }]);
    }
  });

  it('[COG-04] [COG-05] sends to every address of a list with commas, names included, with subject and HTML content', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox));
    expect(inbox.messages).toMatchObject([
      {
        to: [{ name: 'Bob', address: 'b@x.org' }, { address: 'c@x.org' }],
        from: [{ address: 'me@x.org' }],
        envelope: { to: ['b@x.org', 'c@x.org'] },
        subject: 'Hi',
        html: '<p>Hello</p>',
        text: 'Hello',
      },
    ]);
  });

  it('an unknown service, and settings that are missing, are reported by field', async () => {
    const unknown = await run({ ...settingsFor({ port: 1 }), emailService: 'Nowhere Mail' });
    expect(unknown).toMatchObject({ kind: 'continue', error: { code: 'SERVICE_UNKNOWN' } });
    const without = await run({ ...settingsFor({ port: 1 }), smtpSettings: undefined });
    expect(without).toMatchObject({
      error: { code: 'INPUT_INVALID', details: { issues: [{ path: 'smtpSettings' }] } },
    });
    const noAddress = await run({
      ...settingsFor({ port: 1 }),
      authentication: { ...basic, username: 'me' },
    });
    expect(noAddress).toMatchObject({ error: { details: { issues: [{ path: 'customFrom' }] } } });
    const nobody = await run({ ...settingsFor({ port: 1 }), authentication: null });
    expect(nobody).toMatchObject({ error: { details: { issues: [{ path: 'authentication' }] } } });
    const wrong = async (change: object): Promise<unknown> =>
      run({ ...settingsFor({ port: 1 }), authentication: { ...basic, ...change } });
    expect(await wrong({ username: '', password: null })).toMatchObject({
      error: { message: 'authentication.username: it is missing; authentication.password: it is missing' },
    });
    expect(await wrong({ password: 12 })).toMatchObject({
      error: { message: 'authentication.password: it must be text, or encrypted text' },
    });
    const noKey = await run({ ...settingsFor({ port: 1 }), storeResult: 'input' });
    expect(noKey).toMatchObject({ error: { details: { issues: [{ path: 'inputKey' }] } } });
  });
});

describe('authentication', () => {
  it('[COG-06] OAuth2 client credentials: endpoint, id, secret, scope and user', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      const authentication = { ...clientCredentials(issuer), scope: 'mail.send' };
      await run(settingsFor(inbox, { authentication }), { scope });
      expect(inbox.logins).toEqual(['me@x.org']);
      expect(inbox.messages[0]?.from).toMatchObject([{ address: 'me@x.org' }]);
      const body = new URLSearchParams(issuer.bodies[0]);
      expect([body.get('grant_type'), body.get('client_id'), body.get('scope')]).toEqual([
        'client_credentials',
        'app',
        'mail.send',
      ]);
    }));

  it('[COG-07] the scope may be left out', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      const outcome = await run(
        settingsFor(inbox, { authentication: { ...clientCredentials(issuer), scope: '' } }),
        {
          scope,
        },
      );
      expect(outcome).toMatchObject({ receipt: { status: 'sent' } });
      expect(new URLSearchParams(issuer.bodies[0]).has('scope')).toBe(false);
    }));

  const refresh = async (issuer: OAuthServer, more: object = {}) =>
    ({
      type: 'oauth2',
      user: 'me@x.org',
      clientId: 'app',
      clientSecret: secret,
      refreshToken: await issuer.issueRefreshToken('app', 'me@x.org'),
      accessUrl: issuer.tokenEndpoint,
      tlsOption: 'none',
      ...more,
    }) as const;

  it('[COG-08] [COG-11] an access token whose expiry in milliseconds has passed is replaced by means of the refresh token', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      const expired = await refresh(issuer, { accessToken: 'old', expiryDate: Date.now() - 1_000 });
      await run(settingsFor(inbox, { authentication: expired }), { scope });
      expect([issuer.requests, inbox.authAttempts.length, inbox.messages.length]).toEqual([
        ['refresh_token'],
        1,
        1,
      ]);
    }));

  it('[COG-09] an access token alone will do while it is valid', () =>
    withOAuth(async ({ issuer, inbox, scope, store }) => {
      store.tokens['me@x.org'] = 'given';
      const { refreshToken: _, ...alone } = await refresh(issuer, {
        accessToken: 'given',
        expiryDate: Date.now() + 3_600_000,
      });
      await run(settingsFor(inbox, { authentication: alone }), { scope });
      expect([issuer.requests, inbox.messages.length]).toEqual([[], 1]);
      await using later = createFlowScope();
      const authentication = { ...alone, expiryDate: 1 };
      const gone = await run(settingsFor(inbox, { authentication }), { scope: later });
      expect(gone).toMatchObject({ error: { code: 'TOKEN_EXPIRED' } });
    }));

  it('[COG-10] an access token that the server refuses is replaced by means of the refresh token', () =>
    withOAuth(async ({ issuer, inbox, scope, store }) => {
      const refused = await refresh(issuer, { accessToken: 'revoked', expiryDate: Date.now() + 3_600_000 });
      // The server knows another token than the one that was given.
      store.set = async (key, stored) => {
        const token = stored.accessToken?.reveal();
        if (token !== undefined && token !== 'revoked') store.tokens['me@x.org'] = token;
        await MemoryTokenStore.prototype.set.call(store, key, stored);
      };
      await run(settingsFor(inbox, { authentication: refused }), { scope });
      expect([issuer.requests, inbox.authAttempts.length, inbox.messages.length]).toEqual([
        ['refresh_token'],
        2,
        1,
      ]);
    }));

  it("[COG-12] the access URL is Google's when none is given", async () => {
    const asked: string[] = [];
    const fetch = async (url: string | URL | Request) => {
      asked.push(String(url));
      return Response.json({ error: 'invalid_grant' }, { status: 400 });
    };
    await using scope = createFlowScope({ auth: { fetch: fetch as typeof globalThis.fetch } });
    const authentication = {
      type: 'oauth2',
      user: 'me@x.org',
      clientId: 'app',
      refreshToken: 'r',
      tlsOption: 'none',
    } as const;
    await run(settingsFor({ port: 1 }, { authentication }), { scope });
    expect(asked).toEqual(['https://accounts.google.com/o/oauth2/token']);
  });

  it.each([
    ['COG-13', 'tls', 'implicit', true],
    ['COG-13', undefined, 'implicit', true],
    ['COG-14', 'starttls', 'starttls', true],
    ['COG-15', 'none', 'none', false],
  ] as const)('[%s] the TLS option %s', async (_, tlsOption, tls, secure) => {
    await withOAuth(async ({ issuer, scope, store }) => {
      const certificate = tls === 'none' ? {} : { certificate: certificates.valid };
      await using inbox = await SmtpInbox.start({ tls, ...certificate, tokens: store.tokens });
      const smtpSettings = { host: 'localhost', port: inbox.port };
      const tlsOptions = { ca: certificates.authority.cert };
      await run(
        settingsFor(inbox, {
          smtpSettings,
          tlsOptions,
          authentication: await refresh(issuer, { tlsOption }),
        }),
        {
          scope,
        },
      );
      expect(inbox.messages).toMatchObject([{ secure }]);
    });
  });

  it('[COG-14] STARTTLS that the server does not offer fails instead of going on in clear', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      const authentication = await refresh(issuer, { tlsOption: 'starttls' });
      const outcome = await run(settingsFor(inbox, { authentication }), { scope });
      expect(outcome).toMatchObject({ error: { code: 'TLS_NOT_OFFERED' } });
      expect(inbox.authAttempts).toEqual([]);
    }));

  it('[COG-15] credentials travel in clear to another machine only where that is allowed', () =>
    withOAuth(async ({ issuer, inbox, store }) => {
      const lookup: Lookup = async () => [{ address: '127.0.0.1', family: 4 }];
      await using far = createFlowScope({ lookup, auth: { tokenStore: store } });
      const smtpSettings = { host: 'mail.example.com', port: inbox.port };
      const settings = settingsFor(inbox, { smtpSettings, authentication: await refresh(issuer) });
      expect(await run(settings, { scope: far })).toMatchObject({ error: { code: 'AUTH_IN_CLEAR_REFUSED' } });
      const allowed = { ...settings, allowPlaintextAuth: true };
      expect(await run(allowed, { scope: far })).toMatchObject({ receipt: { status: 'sent' } });
    }));

  it('[COG-16] the deprecated method works, with a warning that names its replacement', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      const outcome = await run(settingsFor(inbox, { authentication: await refresh(issuer) }), { scope });
      expect(outcome).toMatchObject({
        receipt: { status: 'sent' },
        warnings: [{ code: 'DEPRECATED_OAUTH2' }],
      });
      expect(outcome.warnings?.[0]?.message).toContain('oauth2-client-credentials');
      const current = await run(settingsFor(inbox, { authentication: clientCredentials(issuer) }), { scope });
      expect(current.warnings).toBeUndefined();
    }));

  it('[COG-17] basic authentication logs in with user name and password', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox));
    expect(inbox.logins).toEqual(['me@x.org']);
  });

  it('[COG-18] credentials are not sent in clear to another machine', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const lookup: Lookup = async () => [{ address: '127.0.0.1', family: 4 }];
    await using scope = createFlowScope({ lookup });
    const smtpSettings = { host: 'mail.example.com', port: inbox.port, secure: false };
    expect(await run(settingsFor(inbox, { smtpSettings }), { scope })).toMatchObject({
      error: { code: 'AUTH_IN_CLEAR_REFUSED' },
    });
    expect(inbox.authAttempts).toEqual([]);
  });

  it('[COG-19] connections and access tokens are kept for the next run', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      for (let run_ = 0; run_ < 3; run_++)
        await run(settingsFor(inbox, { authentication: clientCredentials(issuer) }), { scope });
      expect([issuer.requests.length, inbox.connections, inbox.logins.length, inbox.messages.length]).toEqual(
        [1, 1, 1, 3],
      );
    }));

  it('[COG-20] a refresh token that was rotated takes the place of the old one, after a restart too', () =>
    withOAuth(async ({ issuer, inbox, store }) => {
      const authentication = await refresh(issuer, { accessToken: 'old', expiryDate: 1 });
      for (let restart = 0; restart < 3; restart++) {
        await using scope = createFlowScope({ auth: { tokenStore: store } });
        const outcome = await run(settingsFor(inbox, { authentication }), { scope });
        expect(outcome).toMatchObject({ receipt: { status: 'sent' } });
        // The access token has expired meanwhile; the refresh token that came with it is all there is.
        for (const [key, { refreshToken }] of store.entries)
          await MemoryTokenStore.prototype.set.call(store, key, { ...(refreshToken && { refreshToken }) });
      }
      expect(issuer.requests).toEqual(['refresh_token', 'refresh_token', 'refresh_token']);
      const used = issuer.bodies.map((body) => new URLSearchParams(body).get('refresh_token'));
      expect(new Set(used).size).toBe(3);
    }));

  it('[COG-21] a changed connection does not use what was kept for the old one', async () => {
    await using inbox = await SmtpInbox.start({
      users: { 'me@x.org': 'pw-S3cret', 'you@x.org': 'other-S3cret' },
    });
    await using scope = createFlowScope();
    await run(settingsFor(inbox), { scope });
    const other = { type: 'basic', username: 'you@x.org', password: 'other-S3cret' } as const;
    await run(settingsFor(inbox, { authentication: other }), { scope });
    const wrong = await run(settingsFor(inbox, { authentication: { ...basic, password: 'wrong-S3cret' } }), {
      scope,
    });
    expect(wrong).toMatchObject({ error: { code: 'AUTH_REFUSED' } });
    expect(inbox.logins).toEqual(['me@x.org', 'you@x.org']);
  });
});

describe('forms', () => {
  it('[COG-49] a named connection held in a variable is used by several steps', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await using scope = createFlowScope();
    const variables = { mail: { ...basic, connectionName: 'mail' } };
    const settings = { ...settingsFor(inbox), authentication: { $variable: 'mail' } };
    for (let step = 0; step < 3; step++)
      await runNode(cognigyNode, settings, { flow: parseFlowData({ variables }), scope });
    expect([inbox.logins.length, inbox.messages.length]).toEqual([1, 3]);
  });

  it.each([
    ['basic', basic],
    [
      'oauth2-client-credentials',
      { tokenEndpointUrl: 'https://x.org/token', clientId: 'c', clientSecret: 's', user: 'me' },
    ],
    ['oauth2', { user: 'me', clientId: 'c', clientSecret: 's', refreshToken: 'r' }],
  ])('[COG-50] the form as it begins, with the login %s filled in', (type, login) => {
    const form: Record<string, unknown> = {};
    for (const { name, default: usual = '' } of cognigyNode.sections.flatMap(({ fields }) => fields)) {
      const [group = '', field] = name.split('.');
      if (field === undefined) form[group] = usual;
      else form[group] = { ...(form[group] as object), [field]: usual };
    }
    // What was filled in before another type was chosen.
    const others = { username: 'old', password: 'old', clientId: 'old', accessToken: 'old' };
    const authentication = { ...(form.authentication as object), ...others, ...login, type };
    const attachments = [{ type: 'text', content: 'x', url: 'https://x.org/old' }];
    const settings = { ...form, emailService: 'Gmail', to: 'a@x.org', authentication, attachments };
    const parsed = cognigyNode.settings.parse(settings);
    expect(parsed.authentication).toMatchObject({ ...login, type });
    expect(parsed.attachments).toEqual([{ type: 'text', content: 'x' }]);
    // What nobody left there by chance: it says where secrets go, how they travel, or what a file is.
    const foreign =
      type === 'oauth2' ? { tokenEndpointUrl: 'https://x.org/token' } : { accessUrl: 'https://x.org' };
    for (const wrong of [{ pasword: 'x' }, foreign])
      expect(
        cognigyNode.settings.safeParse({ ...settings, authentication: { ...authentication, ...wrong } })
          .success,
      ).toBe(false);
    const typed = [{ type: 'text', content: '<b>', contentType: 'text/html' }];
    expect(cognigyNode.settings.safeParse({ ...settings, attachments: typed }).success).toBe(false);
  });

  it('[COG-50] what is left blank, or belongs to a choice that was not made, is not there', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const blank = {
      stopOnError: '',
      async: null,
      priority: '',
      storeResult: null,
      subject: null,
      content: 7,
    };
    const settings = {
      ...settingsFor(inbox),
      ...blank,
      ...{ customText: '', customFrom: null, inputKey: '', replyTo: '' },
      authentication: { ...basic, clientId: '', user: null, scope: '' },
      attachments: [
        { type: 'none', url: '', content: '' },
        { type: '', url: '' },
        { type: 'text', content: 'x', filename: '', url: '', contentType: null, raw: '' },
      ],
    };
    const outcome = await runNode(cognigyNode, settings, { flow });
    expect(outcome).toMatchObject({ receipt: { status: 'sent' } });
    // A text of its own that is left blank is made from the HTML, as one that is left out.
    expect(inbox.messages[0]).toMatchObject({ html: '7', text: expect.stringMatching(/^7\s*$/) });
    expect(inbox.messages[0]?.attachments).toHaveLength(1);
    const anonymous = { ...settings, authentication: { type: '', username: '', password: null } };
    expect(cognigyNode.settings.parse(anonymous).authentication).toBeUndefined();
    const known = {
      ...settings,
      emailService: 'Gmail',
      smtpSettings: { host: '', port: null, secure: false },
    };
    expect(() => cognigyNode.settings.parse(known)).not.toThrow();
  });

  it.each([
    ['{{ input.stop }}', 'halt'],
    [{ $variable: 'stop' }, 'halt'],
    ['true', 'halt'],
    ['{{ input.go }}', 'continue'],
  ])('[COG-34] stop on error %j decides for settings that are wrong, too', async (stopOnError, kind) => {
    const data = parseFlowData({
      input: { stop: true, go: false, key: 'mail.error' },
      variables: { stop: true },
    });
    const settings = {
      ...settingsFor({ port: 1 }),
      ...{ to: 'nobody', stopOnError, storeResult: ' Context', contextKey: '{{ input.key }}' },
    };
    const outcome = await runNode(cognigyNode, settings, { flow: data });
    const error = { code: 'ADDRESS_INVALID' };
    expect(outcome).toMatchObject({ kind, error, flow: { context: { mail: { error: { error } } } } });
  });

  it.each([5, { $variable: 'nothing' }, null])(
    'a key that is none (%j) is an error, not an exception',
    async (contextKey) => {
      const settings = { ...settingsFor({ port: 1 }), storeResult: 'context', contextKey };
      expect(await runNode(cognigyNode, settings, { flow })).toHaveProperty('error');
    },
  );
});

describe('attachments', () => {
  async function attach(attachments: CognigySettings['attachments'], host: Partial<NodeHost> = {}) {
    await using inbox = await SmtpInbox.start({ users });
    const outcome = await run(settingsFor(inbox, { attachments }), host);
    if ('error' in outcome) throw new Error(outcome.error.message);
    return inbox.messages[0];
  }

  it('[COG-22] none', async () => {
    for (const none of [undefined, [], [{ type: 'none' as const }]]) {
      expect((await attach(none))?.attachments).toEqual([]);
    }
  });

  it('[COG-23] [COG-24] from a web URL, under its own name or a custom one', async () => {
    await using web = await HttpServer.start({
      '/files/report.pdf': (_, response) =>
        response.writeHead(200, { 'content-type': 'application/pdf' }).end('%PDF-1.7 x'),
    });
    const urls = { allowedHosts: ['127.0.0.1'], allowedPorts: [web.port] };
    await using scope = createFlowScope({ attachments: { urls } });
    const url = web.url('/files/report.pdf');
    const mail = await attach(
      [
        { type: 'url', url },
        { type: 'url', url, filename: 'mine.pdf' },
      ],
      { scope },
    );
    expect(mail?.attachments).toMatchObject([
      { filename: 'report.pdf', contentType: 'application/pdf', size: 10 },
      { filename: 'mine.pdf', contentType: 'application/pdf' },
    ]);
  });

  it('[COG-25] from a data URL', async () => {
    const mail = await attach([{ type: 'url', url: 'data:text/csv;base64,YSxi', filename: 'a.csv' }]);
    expect(mail?.attachments).toMatchObject([
      { filename: 'a.csv', contentType: 'text/csv', content: Buffer.from('a,b') },
    ]);
  });

  it('[COG-23] a URL of a private network is refused, and nothing is sent', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const outcome = await run(
      settingsFor(inbox, { attachments: [{ type: 'url', url: 'http://169.254.169.254/' }] }),
    );
    expect(outcome).toMatchObject({ error: { code: 'ATTACHMENT_URL_REFUSED' } });
    expect(inbox.messages).toEqual([]);
  });

  it.each([
    [
      'COG-26',
      { type: 'text', content: 'Grüße', filename: 'a.txt' },
      'a.txt',
      'text/plain',
      Buffer.from('Grüße'),
    ],
    [
      'COG-27',
      { type: 'base64', content: 'AAEC', filename: 'a.bin' },
      'a.bin',
      'application/octet-stream',
      Buffer.from([0, 1, 2]),
    ],
    [
      'COG-28',
      { type: 'custom', content: 'BEGIN:VCALENDAR', contentType: 'text/calendar', filename: 'a.ics' },
      'a.ics',
      'text/calendar',
      Buffer.from('BEGIN:VCALENDAR'),
    ],
    [
      'COG-29',
      {
        type: 'mime',
        raw: 'Content-Type: application/x-thing\r\nContent-Disposition: attachment; filename=t.x\r\n\r\nbody as it is',
      },
      't.x',
      'application/x-thing',
      Buffer.from('body as it is'),
    ],
  ] as const)('[%s] %o', async (_, attachment, filename, contentType, content) => {
    const [one] = (await attach([attachment]))?.attachments ?? [];
    expect(one).toMatchObject({ filename, contentType });
    expect(one?.content.subarray(0, content.length)).toEqual(content);
  });
});

describe('result and errors', () => {
  it('[COG-30] the result is stored nowhere by default', async () => {
    await using inbox = await SmtpInbox.start({ users });
    expect((await run(settingsFor(inbox))).flow).toEqual(flow);
  });

  it.each([
    ['COG-31', 'input', 'a.b'],
    ['COG-32', 'context', 'mail.result'],
  ] as const)('[%s] [COG-33] into %s at the key %s, beside what is there', async (_, storeResult, key) => {
    await using inbox = await SmtpInbox.start({ users });
    const { flow: after } = await run(settingsFor(inbox, { storeResult, inputKey: key, contextKey: key }));
    const { input, context } = after;
    const [first = '', second = ''] = key.split('.');
    const place = { input, context }[storeResult][first] as Record<string, unknown>;
    expect(place[second]).toMatchObject({ status: 'sent', accepted: ['b@x.org', 'c@x.org'] });
    expect(after).toMatchObject({ input: { a: { keep: 1 } }, context: { other: true } });
  });

  it.each([
    [true, 'halt'],
    [false, 'continue'],
    [undefined, 'continue'],
  ] as const)(
    '[COG-34] stop on error %s: the flow will %s, and the result holds the error',
    async (stopOnError, kind) => {
      await using inbox = await SmtpInbox.start({ users: { 'me@x.org': 'another' } });
      const outcome = await run(
        settingsFor(inbox, { stopOnError, storeResult: 'context', contextKey: 'mail' }),
      );
      const error = { code: 'AUTH_REFUSED', hint: expect.stringMatching(/.{20}/), phase: 'auth' };
      expect(outcome).toMatchObject({ kind, error, flow: { context: { other: true, mail: { error } } } });
    },
  );
});

describe('advanced', () => {
  it('[COG-35] [COG-36] [COG-37] [COG-38] [COG-39] custom From, Cc, Bcc, Reply-To and plain text', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await run(
      settingsFor(inbox, {
        customFrom: 'Team <team@x.org>',
        cc: 'cc@x.org',
        bcc: 'bcc@x.org',
        replyTo: 'reply@x.org',
        customText: 'Just text',
      }),
    );
    const [mail] = inbox.messages;
    expect(mail).toMatchObject({
      from: [{ name: 'Team', address: 'team@x.org' }],
      cc: [{ address: 'cc@x.org' }],
      replyTo: [{ address: 'reply@x.org' }],
      text: 'Just text',
      html: '<p>Hello</p>',
    });
    expect(mail?.envelope.to).toEqual(['b@x.org', 'c@x.org', 'cc@x.org', 'bcc@x.org']);
    expect(mail?.raw.toString()).not.toContain('bcc@x.org');
  });

  it.each([
    ['high', '1'],
    ['normal', undefined],
    ['low', '5'],
  ] as const)('[COG-40] priority %s', async (priority, header) => {
    await using inbox = await SmtpInbox.start({ users });
    await run(settingsFor(inbox, { priority }));
    expect(inbox.messages[0]?.headers.get('x-priority')?.[0]?.replace(/^X-Priority: (\d).*$/is, '$1')).toBe(
      header,
    );
  });

  it('[COG-41] executed asynchronously, the flow goes on before the server has answered, and the outcome is recorded', async () => {
    const gate = Promise.withResolvers<undefined>();
    await using inbox = await SmtpInbox.start({ users, refuse: { message: () => gate.promise } });
    const settled = Promise.withResolvers<NodeOutcome>();
    const settings = settingsFor(inbox, { async: true, storeResult: 'context', contextKey: 'mail' });
    const outcome = await run(settings, { onSettled: (one) => settled.resolve(one) });
    expect(outcome).toMatchObject({ kind: 'continue', receipt: { status: 'queued' } });
    expect(inbox.messages).toEqual([]);
    gate.resolve(undefined);
    expect(await settled.promise).toMatchObject({
      receipt: { status: 'sent' },
      flow: { context: { mail: { status: 'sent' } } },
    });
    expect(inbox.messages).toHaveLength(1);
  });

  it('[COG-42] otherwise the flow waits until the e-mail is sent', async () => {
    await using inbox = await SmtpInbox.start({ users });
    expect(await run(settingsFor(inbox))).toMatchObject({ receipt: { status: 'sent' } });
    expect(inbox.messages).toHaveLength(1);
  });
});

describe('the example and the troubleshooting table', () => {
  it('[COG-43] Microsoft 365 with OAuth2 client credentials', async () => {
    const asked: string[] = [];
    const fetch = async (url: string | URL | Request, init?: RequestInit) => {
      asked.push(String(url), new URLSearchParams(String(init?.body)).get('scope') ?? '');
      return Response.json({ error: 'invalid_client' }, { status: 401 });
    };
    await using scope = createFlowScope({ auth: { fetch: fetch as typeof globalThis.fetch } });
    const { smtpSettings: _, ...settings } = settingsFor({ port: 1 });
    const tokenEndpointUrl =
      'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token';
    const authentication = {
      ...{
        type: 'oauth2-client-credentials' as const,
        clientId: 'app',
        clientSecret: secret,
        user: 'me@x.org',
      },
      ...{ tokenEndpointUrl, scope: 'https://outlook.office365.com/.default' },
    } as const;
    await run({ ...settings, emailService: 'Microsoft 365', authentication }, { scope });
    expect(asked).toEqual([tokenEndpointUrl, 'https://outlook.office365.com/.default']);
  });

  it('[COG-44] a typing mistake', async () => {
    await using scope = createFlowScope({
      lookup: async () => {
        throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
      },
    });
    const smtpSettings = { host: 'smtp.exmaple.com', port: 587 };
    expect(await run(settingsFor({ port: 1 }, { smtpSettings }), { scope })).toMatchObject({
      error: {
        code: 'HOST_NOT_FOUND',
        platform: {
          name: 'General error',
          cause: expect.stringMatching(/mistyped/),
          solution: expect.any(String),
        },
      },
    });
  });

  it('[COG-44] a secret that is missing, and an endpoint that is none', async () => {
    await using issuer = await OAuthServer.start({ secrets: { app: secret } });
    for (const wrong of [{ clientSecret: '' }, { tokenEndpointUrl: 'login.example.com/token' }]) {
      const authentication = { ...clientCredentials(issuer), ...wrong };
      expect(await run(settingsFor({ port: 1 }, { authentication }))).toMatchObject({
        error: { platform: { name: 'General error' } },
      });
    }
  });

  it('a connection URL in place of a service is not repeated', async () => {
    const emailService = 'smtps://me:pw-S3cret@smtp.x.org';
    expect(await run({ ...settingsFor({ port: 1 }), emailService })).toMatchObject({
      error: { code: 'SERVICE_UNKNOWN' },
    });
  });

  const issue = (name: string, code: string) => ({
    error: { code, platform: { name, cause: expect.any(String), solution: expect.any(String) } },
  });

  it('[COG-45] a custom From address that is not the login', async () => {
    const text = '5.7.60 SMTP; Client does not have permissions to send as this sender';
    await using inbox = await SmtpInbox.start({ users, refuse: { mailFrom: () => ({ code: 550, text }) } });
    expect(await run(settingsFor(inbox, { customFrom: 'boss@x.org' }))).toMatchObject(
      issue('Invalid login', 'SENDER_REFUSED'),
    );
    await using refusing = await SmtpInbox.start({ users: { 'me@x.org': 'another' } });
    const mismatch = await run(settingsFor(refusing, { customFrom: 'boss@x.org' }));
    expect(mismatch).toMatchObject(issue('Invalid login', 'AUTH_REFUSED'));
  });

  it('[COG-46] 401: a token without permission', () =>
    withOAuth(async ({ scope }) => {
      await using issuer = await OAuthServer.start({ secrets: { app: secret }, roles: [] });
      const fetch = (async (url: string, init?: RequestInit) =>
        globalThis.fetch(
          url.replace('https://login.microsoftonline.com', issuer.issuer),
          init,
        )) as typeof globalThis.fetch;
      await using entra = createFlowScope({ ...scope.options, auth: { fetch } });
      const authentication = {
        ...clientCredentials(issuer),
        tokenEndpointUrl: 'https://login.microsoftonline.com/token',
      };
      expect(await run(settingsFor({ port: 1 }, { authentication }), { scope: entra })).toMatchObject(
        issue('401 Unauthorized', 'TOKEN_CONSENT_MISSING'),
      );
    }));

  it('[COG-47] 535: SMTP AUTH is off for the mailbox', async () => {
    const text = '5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.';
    await using inbox = await SmtpInbox.start({ users, refuse: { auth: () => ({ code: 535, text }) } });
    const outcome = await run(settingsFor(inbox));
    expect(outcome).toMatchObject(issue('535 Authentication failed', 'AUTH_REFUSED'));
    expect('error' in outcome && outcome.error.hint).toMatch(/SMTP AUTH|authenticated SMTP/i);
  });

  it('[COG-48] the token cannot be got', () =>
    withOAuth(async ({ issuer, inbox, scope }) => {
      const authentication = { ...clientCredentials(issuer), clientSecret: 'wrong-S3cret' };
      expect(await run(settingsFor(inbox, { authentication }), { scope })).toMatchObject(
        issue('Token acquisition failed', 'TOKEN_CLIENT_REFUSED'),
      );
    }));

  it.each([
    ['Token acquisition failed', 400, { error: 'unauthorized_client', error_codes: [700016] }],
    ['Token acquisition failed', 400, { error: 'invalid_request', error_codes: [90002] }],
    ['Token acquisition failed', 400, { error: 'invalid_request', error_codes: [50194] }],
    ['Token acquisition failed', 400, { error: 'invalid_request', error_codes: [50059] }],
    ['Token acquisition failed', 400, { error: 'invalid_request', error_codes: [7000229] }],
    ['401 Unauthorized', 400, { error: 'unauthorized_client' }],
    ['401 Unauthorized', 401, '<html>'],
    ['401 Unauthorized', 401, {}],
    ['General error', 200, '<html>'],
  ])('%s: the token endpoint answers %s %j', async (name, status, answer) => {
    await using issuer = await HttpServer.start((_request, response) =>
      response.writeHead(status).end(typeof answer === 'string' ? answer : JSON.stringify(answer)),
    );
    const authentication = {
      type: 'oauth2-client-credentials',
      ...{ connectionName: 'mail', clientId: 'app', user: 'me@x.org' },
      ...{ clientSecret: secret, tokenEndpointUrl: issuer.url('/token') },
    } as const;
    await using inbox = await SmtpInbox.start({ tokens: {} });
    const found = await run(settingsFor(inbox, { authentication }));
    expect(found).toMatchObject({ error: { platform: { name } } });
  });

  it.each([
    ['Invalid login', 530, '5.7.57 Client not authenticated to send mail'],
    ['401 Unauthorized', 430, '4.2.0 STOREDRV; mailbox logon failure'],
  ])('%s: the server answers MAIL with %s %s', async (name, code, text) => {
    await using inbox = await SmtpInbox.start({ users, refuse: { mailFrom: () => ({ code, text }) } });
    expect(await run(settingsFor(inbox))).toMatchObject({ error: { platform: { name } } });
  });

  it('a port where nobody listens is a mistyped setting', async () => {
    expect(await run(settingsFor({ port: 1 }))).toMatchObject({
      error: { code: 'CONNECTION_REFUSED', platform: { name: 'General error' } },
    });
  });
});
