import { type ConnectionInput, MailError, SecretText } from '@flowpost/core';
import {
  createTestCertificates,
  HttpServer,
  OAuthServer,
  RawServer,
  SmtpInbox,
  speakSmtp,
  type TestCertificates,
} from '@flowpost/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { withExchangeCommands } from './exchange-commands.ts';
import { verifyConnection } from './verify-connection.ts';

const timeouts = { connectMs: 2_000, greetingMs: 500, commandMs: 500, dataMs: 500, confirmMs: 500 };
const password = 'hunter2-S3cret!';
const auth = { kind: 'basic', username: 'me@x.org', password } as const;
let certificates: TestCertificates;
beforeAll(async () => {
  certificates = await createTestCertificates();
});

/** The steps as `name status`, after making sure that no secret is in the report. */
async function verify(connection: object) {
  const told: string[] = [];
  const report = await verifyConnection({ timeouts, ...connection } as ConnectionInput, {
    onStep: ({ step, status }) => told.push(`${step} ${status}`),
  });
  expect(JSON.stringify(report)).not.toContain(password);
  expect(told.toSorted()).toEqual(report.steps.map(({ step, status }) => `${step} ${status}`).toSorted());
  const find = (name: string) => report.steps.find(({ step }) => step === name);
  return { ...report, find, summary: report.steps.map(({ step, status }) => `${step} ${status}`).join(', ') };
}

describe('a connection that works', () => {
  it.each(['implicit', 'starttls'] as const)('over %s: every step, and nothing is sent', async (tls) => {
    await using inbox = await SmtpInbox.start({
      tls,
      certificate: certificates.valid,
      users: { 'me@x.org': password },
    });
    const tlsOptions = { ca: certificates.authority.cert };
    const report = await verify({ host: '127.0.0.1', port: inbox.port, tls, tlsOptions, auth });
    expect(report.summary).toBe('dns ok, tcp ok, tls ok, ehlo ok, token skipped, auth ok, sender ok');
    expect(report.ok).toBe(true);
    expect(report.find('tls')?.details).toMatchObject({
      certificate: { daysLeft: expect.any(Number), fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    expect(report.find('tls')?.hint).toContain('days');
    expect(report.find('ehlo')?.details).toMatchObject({
      extensions: expect.arrayContaining(['PIPELINING']),
    });
    expect(inbox.messages).toEqual([]);
    // The inbox does not see an upgraded socket close.
    if (tls === 'implicit') await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('with a token says what the token is for, and never shows it', async () => {
    await using server = await OAuthServer.start({ secrets: { app: password } });
    await using inbox = await SmtpInbox.start({ tokens: { 'me@x.org': 'another' } });
    const credential = {
      kind: 'oauth2-client-credentials',
      user: 'me@x.org',
      tokenEndpoint: server.tokenEndpoint,
      clientId: 'app',
      clientSecret: password,
    };
    const report = await verify({ host: '127.0.0.1', port: inbox.port, auth: credential });
    expect(report.summary).toBe(
      'dns ok, tcp ok, tls skipped, ehlo ok, token ok, auth failed, sender skipped',
    );
    expect(report.find('token')?.details).toMatchObject({
      permissions: expect.any(Array),
      expiresAt: expect.any(String),
    });
    expect(report.find('auth')?.hint).toMatch(/\.$/);
    expect(JSON.stringify(report)).not.toMatch(/eyJ/);
  });
});

const id = '11111111-2222-3333-4444-555555555555';
/** A token as Entra makes them. Nobody here looks at its signature. */
const entraToken = (claims: object): string =>
  `${['{"alg":"none"}', JSON.stringify({ appid: id, oid: id, ...claims })].map((part) => Buffer.from(part).toString('base64url')).join('.')}.x`;

it.each([
  [{ aud: 'https://graph.microsoft.com', roles: ['Mail.Send'] }, /is for Microsoft Graph/, undefined],
  [
    { aud: 'https://outlook.office365.com', roles: ['full_access_as_app'] },
    /no permission for SMTP/,
    undefined,
  ],
  [{ aud: 'https://outlook.office365.com', roles: ['SMTP.SendAsApp'] }, undefined, ['New-ServicePrincipal']],
  [{ aud: 'https://api.example.com', roles: [] }, undefined, ['New-ServicePrincipal']],
])(
  'a token with %j: says what of it Exchange will not take, and what to run only when it fits',
  async (claims, hint, commands) => {
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return '250-test\r\n250 AUTH XOAUTH2';
        return command.startsWith('AUTH') ? '535 5.7.3 Authentication unsuccessful' : undefined;
      }),
    );
    const credential = { kind: 'oauth2-refresh', user: 'me@x.org', accessToken: entraToken(claims) };
    const report = await verify({ host: '127.0.0.1', port: server.port, tls: 'none', auth: credential });
    if (hint) expect(report.find('token')?.hint).toMatch(hint);
    else expect(report.find('token')?.hint).toBeUndefined();
    const shown = report.find('auth')?.error?.details?.powershell;
    if (commands) expect(shown).toEqual(expect.arrayContaining([expect.stringContaining(commands[0] ?? '')]));
    else expect(shown).toBeUndefined();
  },
);

it('a From address that is not the login may be refused later', async () => {
  await using inbox = await SmtpInbox.start({ users: { 'me@x.org': password } });
  const at = { host: '127.0.0.1', port: inbox.port, auth };
  expect((await verify({ ...at, from: 'boss@x.org' })).find('sender')?.hint).toMatch(
    /me@x\.org may send as boss@x\.org/,
  );
  expect((await verify({ ...at, from: 'Me@x.org' })).find('sender')?.hint).toBeUndefined();
});

describe('stops at the first failure', () => {
  const at = (port: number, more: object = {}) => ({ host: '127.0.0.1', port, auth, ...more });

  it('an unknown host', async () => {
    const report = await verify({ host: 'nowhere.invalid', auth });
    expect(report.summary).toBe(
      'dns failed, tcp skipped, tls skipped, ehlo skipped, token skipped, auth skipped, sender skipped',
    );
    expect(report.find('dns')?.error?.code).toBe('HOST_NOT_FOUND');
  });

  it('a closed port', async () => {
    const closed = await RawServer.start(() => undefined);
    const { port } = closed;
    await closed[Symbol.asyncDispose]();
    const report = await verify(at(port));
    expect(report.summary).toMatch(/^dns ok, tcp failed, tls skipped/);
    expect(report.ok).toBe(false);
  });

  it.each(['implicit', 'starttls'] as const)(
    'a certificate nobody vouches for (%s), which it shows all the same',
    async (tls) => {
      await using inbox = await SmtpInbox.start({ tls, certificate: certificates.valid });
      const report = await verify(at(inbox.port, { tls }));
      expect(report.summary).toMatch(/^dns ok, tcp ok, tls failed, ehlo skipped/);
      expect(report.find('tls')?.error).toMatchObject({
        code: 'TLS_CERTIFICATE_UNTRUSTED',
        details: { certificate: { issuer: expect.any(String), daysLeft: expect.any(Number) } },
      });
      expect(inbox.authAttempts).toEqual([]);
    },
  );

  it('a server that agrees to STARTTLS and goes on in clear is asked once, and not for another mode', async () => {
    let visits = 0;
    await using server = await RawServer.start((socket) => {
      visits++;
      socket.write('220 x\r\n');
      socket.on('data', (data) => {
        const said = data.toString('latin1');
        const isClear = /^[A-Z]+(?: .*)?\r\n$/.test(said);
        if (said.startsWith('EHLO')) socket.write('250-x\r\n250 STARTTLS\r\n');
        else socket.write(isClear ? '220 go\r\n' : '500 what\r\n');
      });
    });
    const report = await verify(at(server.port, { tls: 'starttls' }));
    expect(report.summary).toMatch(/^dns ok, tcp ok, tls failed/);
    expect(report.find('tls')).toMatchObject({
      message: expect.stringContaining('agreed to STARTTLS'),
      error: { code: 'TLS_FAILED' },
    });
    expect(visits).toBe(1);
  });

  it('a greeting that refuses, over TLS that went well', async () => {
    await using inbox = await SmtpInbox.start({
      ...{ tls: 'implicit', certificate: certificates.valid },
      refuse: { connect: () => ({ code: 554, text: '5.7.1 no service for you' }) },
    });
    const tlsOptions = { ca: certificates.authority.cert };
    const report = await verify(at(inbox.port, { tls: 'implicit', tlsOptions }));
    expect(report.summary).toMatch(/^dns ok, tcp ok, tls ok, ehlo failed/);
  });

  it('a sender the server has no way to hear of is no refusal of his', async () => {
    await using inbox = await SmtpInbox.start({ hide: ['SMTPUTF8'] });
    const from = 'j\u00f6rg@x.org';
    const { steps } = await verifyConnection({
      host: '127.0.0.1',
      port: inbox.port,
      from,
    } as ConnectionInput);
    expect(steps.at(-1)).toMatchObject({ step: 'sender', error: { code: 'SMTPUTF8_NOT_OFFERED' } });
  });

  it('whoever gives up does not wait for the answer to QUIT', async () => {
    const stop = new AbortController();
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => (command === 'QUIT' ? null : undefined)),
    );
    await using issuer = await HttpServer.start(() => stop.abort());
    const connection: ConnectionInput = {
      ...{ kind: 'smtp', host: '127.0.0.1', port: server.port, tls: 'none', allowPlaintextAuth: true },
      auth: {
        ...{ kind: 'oauth2-client-credentials', user: 'me@x.org', tokenEndpoint: issuer.url('/token') },
        ...{ clientId: 'app', clientSecret: 'secret' },
      },
    };
    const begun = performance.now();
    const { steps } = await verifyConnection(connection, { signal: stop.signal });
    expect(steps.find(({ step }) => step === 'token')?.error?.code).toBe('SEND_CANCELLED');
    // An answer is waited for two seconds.
    expect(performance.now() - begun).toBeLessThan(1_900);
  });

  it('a signal that ends while the name is looked up is no failure of what comes after', async () => {
    const options = { lookup: () => new Promise<never>(() => undefined), signal: AbortSignal.timeout(50) };
    const graph = {
      ...{ kind: 'microsoft365', delivery: 'graph', tenantId: 'x.org', graphBaseUrl: 'https://x.org' },
      auth: { kind: 'oauth2-refresh', user: 'a@x.org', accessToken: 'token' },
    } as const;
    for (const connection of [{ host: 'x.org', auth }, graph]) {
      const { steps } = await verifyConnection(connection as ConnectionInput, options);
      expect(steps.map(({ status }) => status)).toEqual(['failed', ...Array(6).fill('skipped')]);
      expect(steps[0]?.error?.code).toBe('SEND_TIMED_OUT');
    }
  });

  it('Graph at an IPv6 address is looked for there', async () => {
    const graphBaseUrl = 'http://[::1]:1024';
    const connection = {
      kind: 'microsoft365',
      delivery: 'graph',
      tenantId: 'x.org',
      graphBaseUrl,
      auth: { kind: 'oauth2-refresh', user: 'a@x.org', accessToken: 'token' },
    };
    const { steps } = await verifyConnection(connection as ConnectionInput);
    expect(steps[0]).toMatchObject({ step: 'dns', status: 'ok' });
  });

  it('a sender of a Unicode domain is asked about as it is sent', async () => {
    await using inbox = await SmtpInbox.start();
    const asked: string[] = [];
    const transcript = ({ text }: { text: string }) => void asked.push(text);
    const from = 'a@b\u00fccher.example';
    await verifyConnection({ host: '127.0.0.1', port: inbox.port, from } as ConnectionInput, { transcript });
    expect(asked).toContain('MAIL FROM:<a@xn--bcher-kva.example>');
  });

  it('a server that falls silent', async () => {
    await using silent = await RawServer.start(() => undefined);
    const report = await verify(at(silent.port, { tls: 'none' }));
    expect(report.summary).toMatch(/^dns ok, tcp ok, tls skipped, ehlo failed, token skipped/);
  });

  it('a login that is refused, and a sender', async () => {
    await using inbox = await SmtpInbox.start({ users: { 'me@x.org': 'another' } });
    expect((await verify(at(inbox.port))).summary).toMatch(/auth failed, sender skipped$/);
    await using strict = await SmtpInbox.start({
      users: { 'me@x.org': password },
      refuse: { mailFrom: () => ({ code: 550, text: '5.7.60 not allowed to send as this sender' }) },
    });
    const report = await verify(at(strict.port, { from: 'boss@x.org' }));
    expect(report.summary).toMatch(/auth ok, sender failed$/);
    expect(report.find('sender')?.hint).toContain('Send As');
  });
});

describe('what an administrator of Microsoft 365 has to run', () => {
  const refusing = (text: string) =>
    SmtpInbox.start({ users: { 'me@x.org': password }, refuse: { auth: () => ({ code: 535, text }) } });

  it.each(['Tenant', 'Mailbox'])('when SMTP AUTH is disabled for the %s', async (what) => {
    await using inbox = await refusing(
      `5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the ${what}.`,
    );
    const report = await verify({ host: '127.0.0.1', port: inbox.port, auth });
    expect(report.find('auth')?.hint).toMatch(
      /PowerShell: Set-CASMailbox -Identity 'me@x\.org' -SmtpClientAuthenticationDisabled \$false$/,
    );
  });

  it.each([
    ['66666666-7777-8888-9999-000000000000', true],
    ['a\u2019; calc; \u2019', false],
  ])('when Exchange does not know the application of the token: %s', async (appid, isId) => {
    const oid = '11111111-2222-3333-4444-555555555555';
    const claims = { aud: 'https://outlook.office365.com', roles: ['SMTP.SendAsApp'], appid, oid };
    const accessToken = `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.signature`;
    await using inbox = await SmtpInbox.start({
      tokens: { 'me@x.org': 'another' },
      refuse: { auth: () => ({ code: 535, text: '5.7.3 Authentication unsuccessful' }) },
    });
    const credential = { kind: 'oauth2-refresh', user: "m'e\u2019@x.org", accessToken };
    const report = await verify({ host: '127.0.0.1', port: inbox.port, auth: credential });
    expect(report.find('token')?.message).toMatch(/SMTP\.SendAsApp/);
    expect(report.find('auth')?.error?.details?.powershell).toEqual(
      isId
        ? [
            `New-ServicePrincipal -AppId '${appid}' -ObjectId '${oid}'`,
            `Add-MailboxPermission -Identity 'm''e\u2019\u2019@x.org' -User '${oid}' -AccessRights FullAccess`,
          ]
        : undefined,
    );
    expect(JSON.stringify(report)).not.toContain(accessToken);
  });

  it('rights from Exchange, and no more of them than over this mailbox', () => {
    const ids = {
      appid: '66666666-7777-8888-9999-000000000000',
      oid: '11111111-2222-3333-4444-555555555555',
    };
    const claims = Buffer.from(JSON.stringify({ aud: 'https://outlook.office365.com', ...ids }));
    const token = new SecretText(`e30.${claims.toString('base64url')}.signature`);
    const refusal = new MailError('AUTH_REFUSED', 'no', { details: { diagnosis: 'm365.mailbox-logon' } });
    const { details } = withExchangeCommands(refusal, { kind: 'bearer', username: "m'e@x.org", token }, true);
    expect(details.powershell).toEqual([
      `New-ServicePrincipal -AppId '${ids.appid}' -ObjectId '${ids.oid}'`,
      `New-ManagementScope -Name 'Flowpost m''e@x.org' -RecipientRestrictionFilter 'PrimarySmtpAddress -eq ''m''''e@x.org'''`,
      `New-ManagementRoleAssignment -App '${ids.oid}' -Role 'Application SMTP.SendAsApp' -CustomResourceScope 'Flowpost m''e@x.org'`,
    ]);
  });

  it('a token that is user and password is shown as neither', async () => {
    const token = '7f3c0123-token-of-a-service';
    await using inbox = await SmtpInbox.start({ users: { [token]: token } });
    const report = await verify({
      ...{ host: '127.0.0.1', port: inbox.port },
      auth: { kind: 'basic', username: token, password: token },
    });
    expect(report.find('auth')?.message).toBe('logged in as ***');
    expect(JSON.stringify(report)).not.toContain(token);
  });

  it('nothing, when the password is wrong', async () => {
    await using inbox = await refusing(
      '5.7.139 Authentication unsuccessful, user credentials were incorrect.',
    );
    const report = await verify({ host: '127.0.0.1', port: inbox.port, auth });
    expect(report.find('auth')?.hint).not.toMatch(/PowerShell/);
  });
});

it('a certificate that is another than the pinned one is shown', async () => {
  const certificates = await createTestCertificates();
  await using inbox = await SmtpInbox.start({ tls: 'implicit', certificate: certificates.valid });
  const tlsOptions = { fingerprints: ['ab'.repeat(32)] };
  const connection = { host: '127.0.0.1', port: inbox.port, tls: 'implicit', tlsOptions };
  const { steps } = await verifyConnection(connection as ConnectionInput);
  const { error } = steps.find(({ status }) => status === 'failed') ?? {};
  expect(error?.code).toMatch(/^TLS_FINGERPRINT_/);
  expect(error?.details).toMatchObject({
    certificate: { fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
});

const known = '66666666-7777-8888-9999-000000000000';
it.each([
  [{ appid: known, oid: known }, 2],
  [{ appid: "x'; calc", oid: known }, undefined],
  [{ appid: known, oid: "x'; calc" }, undefined],
  [{ appid: known }, undefined],
])('no command is made of a token with %j but of ids', (ids, count) => {
  const claims = { aud: 'https://outlook.office365.com', roles: ['SMTP.SendAsApp'], ...ids };
  const token = new SecretText(`e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.signature`);
  const refusal = new MailError('AUTH_REFUSED', 'no', { details: { diagnosis: 'm365.mailbox-logon' } });
  const { details } = withExchangeCommands(refusal, { kind: 'bearer', username: 'me@x.org', token });
  expect((details.powershell as string[] | undefined)?.length).toBe(count);
});
