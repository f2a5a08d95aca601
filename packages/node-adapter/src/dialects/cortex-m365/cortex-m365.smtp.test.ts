import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  generateSecretKey,
  ManualClock,
  MemoryTokenStore,
  SecretBox,
  type StoredTokens,
} from '@flowpost/core';
import { GraphServer, type GraphServerOptions, OAuthServer, SmtpInbox } from '@flowpost/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type FlowDataInput, parseFlowData } from '../../flow/flow-data.ts';
import { createFlowScope, type FlowScope, type FlowScopeOptions } from '../../flow/flow-scope.ts';
import type { NodeOutcome } from '../../node.ts';
import { runNode } from '../../run-node.ts';
import { cortexMicrosoft365Node } from './cortex-m365.ts';

const box = new SecretBox([generateSecretKey()]);
const seal = async (text: string): Promise<string> => (await box.encrypt(text)).compact;
const ObjectId = '11111111-2222-3333-4444-555555555555';
const TenantId = 'contoso.onmicrosoft.com';

let folder: string;
let issuer: OAuthServer;
let graph: GraphServer;
let ClientSecret: string;
let CertificatePassword: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  const openssl = (...args: string[]): void =>
    void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  openssl(
    ...'req -x509 -newkey rsa:2048 -nodes -keyout app.key -out app.crt -days 30 -subj /CN=app'.split(' '),
  );
  openssl(
    ...'pkcs12 -export -inkey app.key -in app.crt -out certificate.pfx -passout pass:pfx-S3cret'.split(' '),
  );
  const pem = `${await readFile(join(folder, 'app.crt'))}${await readFile(join(folder, 'app.key'))}`;
  await writeFile(join(folder, 'certificate.pem'), pem);
  await mkdir(join(folder, 'inner'));
  const key = createPublicKey(await readFile(join(folder, 'app.crt'))).export({ format: 'jwk' });
  const jwk = { ...key, alg: 'PS256', use: 'sig' };
  const roles = ['Mail.Send', 'SMTP.SendAsApp'];
  issuer = await OAuthServer.start({ secrets: { app: 'client-S3cret' }, keys: { certified: jwk }, roles });
  ClientSecret = await seal('client-S3cret');
  CertificatePassword = await seal('pfx-S3cret');
});
afterAll(async () => {
  await issuer[Symbol.asyncDispose]();
  await graph[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const startGraph = (options: Partial<GraphServerOptions> = {}) =>
  GraphServer.start({ users: { [ObjectId]: 'sender@outlook.com' }, ...options });
beforeEach(async () => {
  await graph?.[Symbol.asyncDispose]();
  graph = await startGraph();
  issuer.requests.length = 0;
  issuer.bodies.length = 0;
});

const address = (Address: string | null) => ({ Name: null, Address });
const example = {
  To: [address('recipient@outlook.com')],
  From: address('sender@outlook.com'),
  Cc: [],
  Bcc: [],
  Priority: null,
  Subject: 'Example email subject',
  BodyFormat: null,
  Body: 'Example email body',
  Attachments: [],
};
const byId = () => ({ ClientId: 'app', ClientSecret, TenantId, ObjectId });
const byCertificate = () => ({
  CertificatePath: join(folder, 'certificate.pfx'),
  CertificatePassword,
  ...{ ClientId: 'certified', TenantId, ObjectId },
});

const scopeFor = (options: FlowScopeOptions = {}): FlowScope =>
  createFlowScope({ secretBox: box, attachments: { baseFolder: folder, fileRoots: [folder] }, ...options });

async function run(settings: object, flow: FlowDataInput = {}, shared?: FlowScope): Promise<NodeOutcome> {
  await using own = shared ? undefined : scopeFor();
  const host = { flow: parseFlowData(flow), scope: shared ?? own ?? scopeFor() };
  const servers = { TokenEndpointUrl: issuer.tokenEndpoint, GraphBaseUrl: graph.baseUrl };
  const outcome = await runNode(
    cortexMicrosoft365Node,
    { EmailMessage: example, ...servers, ...settings },
    host,
  );
  expect(JSON.stringify(outcome)).not.toMatch(/S3cret/);
  return outcome;
}

describe('the examples', () => {
  it('[M365-01] client credentials', async () => {
    const variables = { EmailMessage: example, Credentials: byId() };
    const settings = {
      EmailMessage: { $variable: 'EmailMessage' },
      Credentials: { $variable: 'Credentials' },
    };
    expect(await run(settings, { variables })).toMatchObject({
      receipt: { status: 'sent', accepted: ['recipient@outlook.com'] },
    });
    expect(graph.sent).toMatchObject([
      {
        user: ObjectId,
        mail: {
          subject: 'Example email subject',
          from: [{ address: 'sender@outlook.com' }],
          html: undefined,
        },
      },
    ]);
    expect(issuer.requests).toEqual(['client_credentials']);
  });

  it.each(['certificate.pfx', 'certificate.pem'])('[M365-02] certificate credentials (%s)', async (file) => {
    const password = file.endsWith('pem') ? await seal('not needed') : CertificatePassword;
    const Credentials = {
      ...byCertificate(),
      CertificatePath: join(folder, file),
      CertificatePassword: password,
    };
    expect(await run({ Credentials: { $variable: 'c' } }, { variables: { c: Credentials } })).toMatchObject({
      receipt: { status: 'sent' },
    });
    expect(new URLSearchParams(issuer.bodies[0]).get('client_assertion_type')).toContain('jwt-bearer');
  });

  it('[M365-03] null for Priority and BodyFormat is Normal and Text', async () => {
    await run({ Credentials: byId() });
    expect(graph.sent[0]?.mail.headers.has('x-priority')).toBe(false);
    expect(graph.sent[0]?.mail).toMatchObject({ html: undefined });
  });

  it("[M365-04] the form begins with the platform's default message and credentials", () => {
    const fields = new Map(
      cortexMicrosoft365Node.sections.flatMap((one) => one.fields).map((one) => [one.name, one.default]),
    );
    expect(fields.get('EmailMessage')).toMatchObject({
      Priority: 'EmailMessagePriority.Normal',
      Attachments: [],
    });
    expect(fields.get('Credentials')).toEqual({ ClientId: '', ClientSecret: '', TenantId: '', ObjectId: '' });
  });
});

describe('tokens', () => {
  it('[M365-05] [M365-07] a variable holds one token for three steps', async () => {
    await using scope = scopeFor();
    for (let step = 0; step < 3; step++)
      await run({ Credentials: { $variable: 'c' } }, { variables: { c: byId() } }, scope);
    expect([issuer.requests.length, graph.sent.length]).toEqual([1, 3]);
  });

  it('[M365-06] an expired token is fetched anew, once', async () => {
    const clock = new ManualClock(Date.now());
    await using scope = scopeFor({ auth: { clock } });
    const step = () => run({ Credentials: { $variable: 'c' } }, { variables: { c: byId() } }, scope);
    await step();
    clock.advance(3_600_000);
    await step();
    await step();
    expect([issuer.requests.length, graph.sent.length]).toEqual([2, 3]);
  });

  it('[M365-08] a literal fetches a token each time', async () => {
    await using scope = scopeFor();
    for (let step = 0; step < 3; step++) await run({ Credentials: byId() }, {}, scope);
    expect([issuer.requests.length, graph.sent.length]).toEqual([3, 3]);
  });

  it('[M365-07] [M365-54] over SMTP too, from several addresses, and the connection is closed each time', async () => {
    const tokens: Record<string, string> = {};
    const store = new MemoryTokenStore();
    store.set = async (key: string, stored: StoredTokens) => {
      for (const user of ['a@x.org', 'b@x.org']) tokens[user] = stored.accessToken?.reveal() ?? '';
      await MemoryTokenStore.prototype.set.call(store, key, stored);
    };
    await using inbox = await SmtpInbox.start({ tokens });
    await using scope = scopeFor({ auth: { tokenStore: store } });
    for (const From of ['a@x.org', 'b@x.org', 'a@x.org']) {
      const settings = {
        EmailMessage: { ...example, From: address(From) },
        Credentials: { $variable: 'c' },
        ...{ Delivery: 'smtp', SmtpHost: '127.0.0.1', SmtpPort: inbox.port },
      };
      expect(await run(settings, { variables: { c: byId() } }, scope)).toMatchObject({
        receipt: { status: 'sent' },
      });
    }
    expect([issuer.requests.length, inbox.logins]).toEqual([1, ['a@x.org', 'b@x.org', 'a@x.org']]);
    await expect.poll(() => inbox.openConnections).toBe(0);
  });
});

describe('delivery', () => {
  it('[M365-09] Microsoft Graph as the user of the Object ID, unless SMTP is asked for', async () => {
    for (const Delivery of [undefined, null, 'graph']) await run({ Credentials: byId(), Delivery });
    expect(graph.requests).toEqual(Array(3).fill(`POST /v1.0/users/${ObjectId}/sendMail`));
  });

  it('[M365-10] SMTP with XOAUTH2 as the From address', async () => {
    const tokens: Record<string, string> = {};
    const store = new MemoryTokenStore();
    store.set = async (key: string, stored: StoredTokens) => {
      tokens['sender@outlook.com'] = stored.accessToken?.reveal() ?? '';
      await MemoryTokenStore.prototype.set.call(store, key, stored);
    };
    await using inbox = await SmtpInbox.start({ tokens });
    await using scope = scopeFor({ auth: { tokenStore: store } });
    const smtp = { Delivery: 'smtp', SmtpHost: '127.0.0.1', SmtpPort: inbox.port };
    await run({ Credentials: { $variable: 'c' }, ...smtp }, { variables: { c: byCertificate() } }, scope);
    expect([inbox.authAttempts, inbox.logins, graph.sent]).toEqual([['XOAUTH2'], ['sender@outlook.com'], []]);
    expect(inbox.messages).toMatchObject([{ subject: 'Example email subject' }]);
  });

  it('[M365-11] any property of the credentials may be encrypted', async () => {
    const sealed = async (given: Record<string, string>) =>
      Object.fromEntries(
        await Promise.all(
          Object.entries(given).map(async ([key, value]) => [
            key,
            value.startsWith('eyJ') ? value : await seal(value),
          ]),
        ),
      );
    for (const Credentials of [await sealed(byId()), await sealed(byCertificate())]) {
      expect(await run({ Credentials })).toMatchObject({ receipt: { status: 'sent' } });
    }
  });
});

const message = (change: object) => ({ EmailMessage: { ...example, ...change }, Credentials: byId() });
const secretWith = (change: object) => ({ Credentials: { ...byId(), ...change } });
const certificateWith = (change: object) => ({ Credentials: { ...byCertificate(), ...change } });

describe('forms', () => {
  it('[M365-55] what is left blank, or belongs to the other kind of credentials, is not there', async () => {
    const blank = { Delivery: '', SmtpHost: '', SmtpPort: '', TlsOptions: { ca: '' } };
    const withBoth = { ...byId(), CertificatePath: null, CertificatePassword: '' };
    expect(await run({ ...blank, Credentials: withBoth })).toMatchObject({ receipt: { status: 'sent' } });
    const other = { ...byCertificate(), ClientSecret: '' };
    expect(await run({ ...blank, Delivery: 'GRAPH', Credentials: other })).toMatchObject({
      receipt: { status: 'sent' },
    });
  });

  it('[M365-56] a user name and password are not taken', async () => {
    expect(await run({ Credentials: { Username: 'u', Password: 'p' } })).toMatchObject({
      error: { platform: { name: 'ArgumentException', property: 'Credentials' } },
    });
  });
});

describe('encrypted text that is empty', () => {
  it.each([
    ['M365-40', 'ClientId', byId],
    ['M365-41', 'ClientSecret', byId],
    ['M365-42', 'TenantId', byId],
    ['M365-43', 'ObjectId', byId],
    ['M365-44', 'CertificatePath', byCertificate],
  ] as const)('[%s] %s', async (_, name, credentials) => {
    const { compact } = await box.encrypt('');
    const settings = { Credentials: { ...credentials(), [name]: compact }, TokenEndpointUrl: '' };
    expect(await run(settings)).toMatchObject({
      error: { platform: { name: 'PropertyEmptyException', property: `Credentials.${name}` } },
    });
    expect(graph.sent).toEqual([]);
  });
});

describe('a base URL that is more than one', () => {
  it.each(['https://user:S3cret@graph.example/v1.0', 'https://graph.example/v1.0?x=1', 'nowhere'])(
    'is refused before anything is sent: %s',
    async (GraphBaseUrl) => {
      expect(await run({ Credentials: byId(), GraphBaseUrl })).toMatchObject({
        error: { inDoubt: false, platform: { name: 'ArgumentException', property: 'GraphBaseUrl' } },
      });
    },
  );
});

describe('exceptions', () => {
  const rows: [string, string, string | undefined, () => object][] = [
    ['M365-13', 'ArgumentException', 'EmailMessage.BodyFormat', () => message({ BodyFormat: 10 })],
    ['M365-14', 'ArgumentException', 'EmailMessage.Priority', () => message({ Priority: 10 })],
    ['M365-24', 'PropertyNullException', 'EmailMessage', () => ({ EmailMessage: null, Credentials: byId() })],
    ['M365-25', 'PropertyNullException', 'EmailMessage.To', () => message({ To: null })],
    ['M365-26', 'PropertyNullException', 'EmailMessage.From', () => message({ From: null })],
    [
      'M365-27',
      'PropertyNullException',
      'EmailMessage.To[0].Address',
      () => message({ To: [address(null)] }),
    ],
    ['M365-28', 'PropertyNullException', 'Credentials', () => ({ Credentials: null })],
    ['M365-29', 'PropertyNullException', 'Credentials.ClientId', () => secretWith({ ClientId: null })],
    [
      'M365-30',
      'PropertyNullException',
      'Credentials.ClientSecret',
      () => secretWith({ ClientSecret: null }),
    ],
    ['M365-31', 'PropertyNullException', 'Credentials.TenantId', () => secretWith({ TenantId: null })],
    ['M365-32', 'PropertyNullException', 'Credentials.ObjectId', () => secretWith({ ObjectId: null })],
    [
      'M365-33',
      'PropertyNullException',
      'Credentials.CertificatePath',
      () => certificateWith({ CertificatePath: null }),
    ],
    [
      'M365-34',
      'PropertyNullException',
      'Credentials.CertificatePassword',
      () => certificateWith({ CertificatePassword: null }),
    ],
    ['M365-35', 'PropertyNullException', 'Credentials.ClientId', () => certificateWith({ ClientId: null })],
    ['M365-36', 'PropertyNullException', 'Credentials.TenantId', () => certificateWith({ TenantId: null })],
    ['M365-37', 'PropertyNullException', 'Credentials.ObjectId', () => certificateWith({ ObjectId: null })],
    ['M365-38', 'PropertyEmptyException', 'EmailMessage.To', () => message({ To: [] })],
    [
      'M365-39',
      'PropertyEmptyException',
      'EmailMessage.Bcc[0].Address',
      () => message({ Bcc: [address('')] }),
    ],
    ['M365-40', 'PropertyEmptyException', 'Credentials.ClientId', () => secretWith({ ClientId: '' })],
    ['M365-41', 'PropertyEmptyException', 'Credentials.ClientSecret', () => secretWith({ ClientSecret: '' })],
    ['M365-42', 'PropertyEmptyException', 'Credentials.TenantId', () => secretWith({ TenantId: '' })],
    ['M365-43', 'PropertyEmptyException', 'Credentials.ObjectId', () => secretWith({ ObjectId: '' })],
    [
      'M365-44',
      'PropertyEmptyException',
      'Credentials.CertificatePath',
      () => certificateWith({ CertificatePath: '' }),
    ],
    [
      'M365-45',
      'PropertyEmptyException',
      'Credentials.CertificatePassword',
      () => certificateWith({ CertificatePassword: '' }),
    ],
    ['M365-46', 'PropertyEmptyException', 'Credentials.ClientId', () => certificateWith({ ClientId: '' })],
    ['M365-47', 'PropertyEmptyException', 'Credentials.TenantId', () => certificateWith({ TenantId: '' })],
    ['M365-48', 'PropertyEmptyException', 'Credentials.ObjectId', () => certificateWith({ ObjectId: '' })],
    [
      'M365-52',
      'ServiceException',
      'EmailMessage.From.Address',
      () => message({ From: address('no address') }),
    ],
    [
      'M365-12',
      'ArgumentException',
      'Credentials.ClientSecret',
      () => secretWith({ ClientSecret: 'plain-S3cret' }),
    ],
    [
      'M365-12',
      'ArgumentException',
      'Credentials.CertificatePassword',
      () => certificateWith({ CertificatePassword: 'S3cret' }),
    ],
    [
      'M365-15',
      'CryptographicException',
      undefined,
      () => certificateWith({ CertificatePath: join(folder, 'gone.pfx') }),
    ],
    [
      'M365-15',
      'CryptographicException',
      undefined,
      () => certificateWith({ CertificatePath: join(folder, 'app.key') }),
    ],
    ['M365-17', 'FileNotFoundException', undefined, () => message({ Attachments: ['gone.txt'] })],
    ['M365-53', 'UnauthorizedAccessException', undefined, () => message({ Attachments: ['inner'] })],
    ['M365-53', 'UnauthorizedAccessException', undefined, () => message({ Attachments: ['/etc/hostname'] })],
    ['M365-19', 'MsalServiceException', undefined, () => secretWith({ ClientId: 'nobody' })],
    ['M365-22', 'MsalServiceException', undefined, () => certificateWith({ ClientId: 'nobody' })],
    ['M365-49', 'ServiceException', undefined, () => secretWith({ ObjectId: 'nobody' })],
    ['M365-50', 'ServiceException', undefined, () => certificateWith({ ObjectId: 'nobody' })],
  ];

  it.each(rows)('[%s] %s for %s', async (_, name, property, settings) => {
    const outcome = await run(settings());
    const wanted = property === undefined ? { name } : { name, property };
    expect(outcome).toMatchObject({
      kind: 'halt',
      error: { platform: { ...wanted, helpLink: expect.stringMatching(/^https:/) } },
    });
    expect(graph.sent).toEqual([]);
  });

  it('[M365-16] CryptographicException for a wrong certificate password', async () => {
    expect(await run(certificateWith({ CertificatePassword: await seal('wrong-S3cret') }))).toMatchObject({
      error: { code: 'CERTIFICATE_PASSWORD_WRONG', platform: { name: 'CryptographicException' } },
    });
  });

  it.each(['EADDRINUSE', 'EADDRNOTAVAIL', 'EMFILE'])(
    '[M365-18] IOException when no socket is to be had (%s)',
    async (reason) => {
      const fetch = async (url: string | URL | Request, init?: RequestInit) => {
        if (String(url).startsWith(issuer.issuer)) return globalThis.fetch(url, init);
        throw new TypeError('fetch failed', { cause: Object.assign(new Error('socket'), { code: reason }) });
      };
      await using scope = scopeFor({ auth: { fetch: fetch as typeof globalThis.fetch } });
      expect(
        await run({ Credentials: { $variable: 'c' } }, { variables: { c: byId() } }, scope),
      ).toMatchObject({
        error: { retryable: true, inDoubt: false, platform: { name: 'IOException' } },
      });
    },
  );

  it('[M365-20] MsalServiceException for a wrong client secret', async () => {
    expect(await run(secretWith({ ClientSecret: await seal('wrong-S3cret') }))).toMatchObject({
      error: { code: 'TOKEN_CLIENT_REFUSED', platform: { name: 'MsalServiceException' } },
    });
  });

  it.each([
    ['M365-21', byId],
    ['M365-23', byCertificate],
  ])('[%s] MsalServiceException for a tenant that does not exist', async (_, credentials) => {
    const asked: string[] = [];
    const fetch = async (url: string | URL | Request) => {
      asked.push(String(url));
      return Response.json({ error: 'invalid_request', error_codes: [90002] }, { status: 400 });
    };
    await using scope = scopeFor({ auth: { fetch: fetch as typeof globalThis.fetch } });
    const settings = { Credentials: { $variable: 'c' }, TokenEndpointUrl: null };
    const outcome = await run(
      settings,
      { variables: { c: { ...credentials(), TenantId: 'nowhere' } } },
      scope,
    );
    expect(outcome).toMatchObject({
      error: { hint: expect.stringMatching(/no such tenant/), platform: { name: 'MsalServiceException' } },
    });
    expect(asked).toEqual(['https://login.microsoftonline.com/nowhere/oauth2/v2.0/token']);
  });

  it.each([
    [403, 'ErrorSendAsDenied', 'SENDER_REFUSED'],
    [403, 'ErrorAccessDenied', 'GRAPH_PERMISSION_MISSING'],
  ])(
    '[M365-51] ServiceException without the right to send as the user (%s %s)',
    async (status, code, expected) => {
      graph.inject(/sendMail/, { status, code });
      expect(await run({ Credentials: byId() })).toMatchObject({
        error: { code: expected, platform: { name: 'ServiceException' } },
      });
    },
  );
});
