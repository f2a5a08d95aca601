import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateSecretKey, type Lookup, MailError, SecretBox } from '@flowpost/core';
import {
  createTestCertificates,
  RawServer,
  SmtpInbox,
  type SmtpInboxOptions,
  type TestCertificates,
} from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FlowDataInput, parseFlowData } from '../../flow/flow-data.ts';
import { createFlowScope, type FlowScope, type FlowScopeOptions } from '../../flow/flow-scope.ts';
import type { NodeOutcome } from '../../node.ts';
import { runNode } from '../../run-node.ts';
import { describeCortexError } from '../cortex/exceptions.ts';
import { cortexSmtpNode } from './cortex-smtp.ts';

const box = new SecretBox([generateSecretKey()]);
let certificates: TestCertificates;
let folder: string;
let Password: string;
beforeAll(async () => {
  certificates = await createTestCertificates();
  folder = await mkdtemp(join(tmpdir(), 'flowpost-'));
  await writeFile(join(folder, 'attachment.txt'), 'the attachment');
  await writeFile(join(folder, 'attachment1.txt'), 'one');
  await writeFile(join(folder, 'attachment2.txt'), 'two');
  await mkdir(join(folder, 'inner'));
  Password = (await box.encrypt('pw-S3cret')).compact;
});
afterAll(() => rm(folder, { recursive: true }));

const users = { 'sender@gmail.com': 'pw-S3cret' };
const address = (Address: string | null, Name: string | null = null) => ({ Name, Address });

/** The message of the examples. */
const example = {
  To: [address('recipient@outlook.com')],
  From: address('sender@gmail.com'),
  Cc: [],
  Bcc: [],
  Priority: null,
  Subject: 'Example email subject',
  BodyFormat: null,
  Body: 'Example email body',
  Attachments: [],
};

/** The session details of the examples, with the host and port of a server that is there. */
const details = (port: number, UseSsl = false, more: object = {}) => ({
  ServerDetails: { Host: 'localhost', Port: port, UseSsl },
  Credentials: { Domain: null, Username: 'sender@gmail.com', Password },
  ...more,
});

const scopeFor = (options: FlowScopeOptions = {}): FlowScope =>
  createFlowScope({ secretBox: box, attachments: { baseFolder: folder, fileRoots: [folder] }, ...options });

async function run(settings: object, flow: FlowDataInput = {}, shared?: FlowScope): Promise<NodeOutcome> {
  await using own = shared ? undefined : scopeFor();
  const host = { flow: parseFlowData(flow), scope: shared ?? own ?? scopeFor() };
  const tls = { TlsOptions: { ca: certificates.authority.cert } };
  const outcome = await runNode(cortexSmtpNode, { ...tls, ...settings }, host);
  expect(JSON.stringify(outcome)).not.toMatch(/S3cret/);
  return outcome;
}

/** Runs the block as the examples do: everything in variables. */
async function runExample(message: object, UseSsl: boolean, options: SmtpInboxOptions = {}) {
  const tls = UseSsl ? 'implicit' : 'starttls';
  await using inbox = await SmtpInbox.start({ tls, certificate: certificates.valid, users, ...options });
  const variables = { message, details: details(inbox.port, UseSsl), close: true };
  const settings = {
    EmailMessage: { $variable: 'message' },
    BasicEmailSessionDetails: { $variable: 'details' },
    CloseSession: { $variable: 'close' },
  };
  await using scope = scopeFor();
  const outcome = await run(settings, { variables }, scope);
  if ('error' in outcome) throw new Error(JSON.stringify(outcome.error));
  // The session is closed although its variable and the flow live on.
  await expect.poll(() => inbox.openConnections).toBe(0);
  const [mail] = inbox.messages;
  if (!mail) throw new Error('nothing arrived');
  expect(mail).toMatchObject({
    secure: true,
    user: 'sender@gmail.com',
    from: [{ address: 'sender@gmail.com' }],
  });
  return mail;
}

describe('the examples', () => {
  it('[CTX-01] one recipient', async () => {
    const mail = await runExample(example, true);
    expect(mail).toMatchObject({
      subject: 'Example email subject',
      html: undefined,
      envelope: { to: ['recipient@outlook.com'] },
    });
    expect(mail.text?.trim()).toBe('Example email body');
    expect(mail.headers.has('x-priority')).toBe(false);
  });

  it('[CTX-02] several recipients', async () => {
    const To = [1, 2, 3].map((one) => address(`recipient${one}@outlook.com`));
    const mail = await runExample({ ...example, To }, true);
    expect(mail.to.map((one) => one.address)).toEqual(To.map(({ Address }) => Address));
    expect(mail.envelope.to).toHaveLength(3);
  });

  it('[CTX-03] Cc and Bcc', async () => {
    const mail = await runExample(
      { ...example, Cc: [address('cc@outlook.com')], Bcc: [address('bcc@outlook.com')] },
      false,
    );
    expect(mail).toMatchObject({ cc: [{ address: 'cc@outlook.com' }], bcc: [] });
    expect(mail.envelope.to).toEqual(['recipient@outlook.com', 'cc@outlook.com', 'bcc@outlook.com']);
  });

  it.each([
    ['EmailMessagePriority.Urgent', '1'],
    ['Urgent', '1'],
    [2, '1'],
    ['EmailMessagePriority.NonUrgent', '5'],
    [1, '5'],
    ['EmailMessagePriority.Normal', undefined],
    [0, undefined],
    [null, undefined],
  ])('[CTX-04] the priority %s', async (Priority, shown) => {
    const mail = await runExample({ ...example, Priority }, false);
    expect(mail.headers.get('x-priority')?.[0]?.match(/\d/)?.[0]).toBe(shown);
  });

  it.each(['EmailMessageBodyFormat.Html', 'Html', 1])('[CTX-05] an HTML body (%s)', async (BodyFormat) => {
    const mail = await runExample({ ...example, BodyFormat, Body: '<h1>Example email body</h1>' }, false);
    expect(mail.html?.trim()).toBe('<h1>Example email body</h1>');
  });

  it('[CTX-06] an attachment', async () => {
    const mail = await runExample({ ...example, Attachments: [join(folder, 'attachment.txt')] }, false);
    expect(mail.attachments).toMatchObject([
      { filename: 'attachment.txt', contentType: 'text/plain', content: Buffer.from('the attachment') },
    ]);
  });

  it('[CTX-07] several attachments', async () => {
    const mail = await runExample({ ...example, Attachments: ['attachment1.txt', 'attachment2.txt'] }, false);
    expect(mail.attachments.map(({ filename }) => filename)).toEqual(['attachment1.txt', 'attachment2.txt']);
  });
});

describe('properties', () => {
  it('[CTX-08] null for Cc, Bcc, Attachments, Priority and BodyFormat is their default', async () => {
    const mail = await runExample(
      {
        To: example.To,
        From: example.From,
        Cc: null,
        Bcc: null,
        Attachments: null,
        Subject: null,
        Body: null,
      },
      true,
    );
    expect(mail).toMatchObject({ subject: '', attachments: [], html: undefined });
  });

  it("[CTX-09] the form begins with the platform's default message, which is not complete", async () => {
    const fields = cortexSmtpNode.sections.flatMap((section) => section.fields);
    const begin = fields.find(({ name }) => name === 'EmailMessage')?.default;
    expect(begin).toEqual({
      To: [{ Name: null, Address: '' }],
      From: { Name: '', Address: '' },
      ...{ Cc: [], Bcc: [], Priority: 'EmailMessagePriority.Normal', Subject: '' },
      ...{ BodyFormat: 'EmailMessageBodyFormat.Text', Body: '', Attachments: [] },
    });
    expect(await run({ EmailMessage: begin, BasicEmailSessionDetails: details(1) })).toMatchObject({
      error: { platform: { name: 'PropertyEmptyException', property: 'EmailMessage.To[0].Address' } },
    });
  });

  it('[CTX-10] Close Session left blank is false; the field begins with true', async () => {
    const field = cortexSmtpNode.sections
      .flatMap(({ fields }) => fields)
      .find(({ name }) => name === 'CloseSession');
    expect(field?.default).toBe(true);
    await using inbox = await SmtpInbox.start({ users });
    await using scope = scopeFor();
    for (const CloseSession of [undefined, null, '', false, 'false']) {
      const settings = {
        EmailMessage: example,
        BasicEmailSessionDetails: { $variable: 'details' },
        CloseSession,
      };
      await run(settings, { variables: { details: details(inbox.port) } }, scope);
    }
    expect([inbox.connections, inbox.openConnections, inbox.messages.length]).toEqual([1, 1, 5]);
  });

  it('[CTX-11] the password must be encrypted', async () => {
    const Credentials = { Username: 'sender@gmail.com', Password: 'pw-S3cret' };
    const settings = { EmailMessage: example, BasicEmailSessionDetails: { ...details(1), Credentials } };
    expect(await run(settings)).toMatchObject({
      kind: 'halt',
      error: {
        platform: { name: 'ArgumentException', property: 'BasicEmailSessionDetails.Credentials.Password' },
      },
    });
  });

  it('[CTX-12] the user name may be encrypted, and the domain need not be given', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const Credentials = { Username: (await box.encrypt('sender@gmail.com')).compact, Password };
    await run({ EmailMessage: example, BasicEmailSessionDetails: { ...details(inbox.port), Credentials } });
    expect(inbox.logins).toEqual(['sender@gmail.com']);
  });

  it('[CTX-13] UseSsl true is TLS from the first byte', async () => {
    await runExample(example, true);
  });

  it('[CTX-14] UseSsl false is STARTTLS when the server offers it, and no TLS when it does not', async () => {
    await runExample(example, false);
    await using inbox = await SmtpInbox.start({ users });
    await run({ EmailMessage: example, BasicEmailSessionDetails: details(inbox.port) });
    expect(inbox.messages).toMatchObject([{ secure: false }]);
  });

  it.each([
    [['PLAIN'], 'PLAIN'],
    [['LOGIN'], 'LOGIN'],
    [['CRAM-MD5', 'LOGIN'], 'LOGIN'],
  ] as const)('[CTX-15] the SASL mechanism is negotiated: of %o, %s', async (authMethods, used) => {
    await using inbox = await SmtpInbox.start({ users, authMethods });
    await run({ EmailMessage: example, BasicEmailSessionDetails: details(inbox.port) });
    expect(inbox.authAttempts).toEqual([used]);
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('[CTX-16] the TLS version is negotiated: %s', async (version) => {
    await runExample(example, true, { tlsVersions: { minVersion: version, maxVersion: version } });
  });

  it('[CTX-17] servers without credentials work', async () => {
    await using inbox = await SmtpInbox.start();
    const { Credentials: _, ...without } = details(inbox.port);
    expect(await run({ EmailMessage: example, BasicEmailSessionDetails: without })).toMatchObject({
      receipt: { status: 'sent' },
    });
    expect(inbox.messages[0]?.user).toBeUndefined();
  });
});

describe('forms', () => {
  it('[CTX-53] what is left blank is its default, and digits are a number', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const ServerDetails = { Host: 'localhost', Port: String(inbox.port), UseSsl: '' };
    const settings = {
      EmailMessage: { ...example, Priority: '2', BodyFormat: '', Attachments: '', Subject: 7 },
      BasicEmailSessionDetails: { ...details(1), ServerDetails },
      TlsOptions: null,
    };
    expect(await run(settings)).toMatchObject({ receipt: { status: 'sent' } });
    expect(inbox.messages[0]).toMatchObject({ subject: '7' });
    expect(inbox.messages[0]?.headers.has('x-priority')).toBe(true);
  });

  it('[CTX-54] what the flow puts into an HTML body is escaped', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const EmailMessage = { ...example, BodyFormat: 'Html', Body: '<b>{{ input.n }}</b>' };
    await run({ EmailMessage, BasicEmailSessionDetails: details(inbox.port) }, { input: { n: '<script>' } });
    expect(inbox.messages[0]?.html?.trim()).toBe('<b>&lt;script&gt;</b>');
  });

  it.each([[''], ['0'], [null], ['{{ input.text }}'], ['{{ input.zero }}']])(
    '[CTX-54] what the flow puts into a text body is as it is (%j)',
    async (BodyFormat) => {
      await using inbox = await SmtpInbox.start({ users });
      const EmailMessage = { ...example, BodyFormat, Body: 'Hi {{ input.n }}' };
      const input = { n: 'A & B <x>', text: 'Text', zero: 0 };
      await run({ EmailMessage, BasicEmailSessionDetails: details(inbox.port) }, { input });
      expect(inbox.messages[0]?.text?.trim()).toBe('Hi A & B <x>');
    },
  );

  it('[CTX-54] an expression may say that a body is HTML', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const EmailMessage = { ...example, BodyFormat: '{{ input.format }}', Body: '<b>{{ input.n }}</b>' };
    const input = { n: '<x>', format: 'EmailMessageBodyFormat.Html' };
    await run({ EmailMessage, BasicEmailSessionDetails: details(inbox.port) }, { input });
    expect(inbox.messages[0]?.html?.trim()).toBe('<b>&lt;x&gt;</b>');
  });
});

describe('sessions', () => {
  const step = (more: object = {}) => ({
    EmailMessage: example,
    BasicEmailSessionDetails: { $variable: 'details' },
    CloseSession: false,
    ...more,
  });

  it('[CTX-20] whatever language a variable is named in', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await using scope = scopeFor();
    const variables = { größe: details(inbox.port) };
    for (const written of [{ $variable: 'größe' }, '{{ variables.größe }}'])
      await run(step({ BasicEmailSessionDetails: written }), { variables }, scope);
    expect(inbox.logins).toHaveLength(1);
  });

  it('[CTX-18] [CTX-20] a variable keeps its session open for later steps: three steps, one login', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const variables = { details: details(inbox.port) };
    {
      await using scope = scopeFor();
      for (const written of [
        { $variable: 'details' },
        '{{ variables.details }}',
        '{{- variables["details"] -}}',
      ]) {
        await run(step({ BasicEmailSessionDetails: written }), { variables }, scope);
      }
      expect([inbox.logins.length, inbox.connections, inbox.openConnections]).toEqual([1, 1, 1]);
    }
    // [CTX-23] The flow has ended.
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('[CTX-19] a session that was closed is opened again', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const flow = { variables: { details: details(inbox.port) } };
    await using scope = scopeFor();
    await run(step({ CloseSession: true }), flow, scope);
    await run(step(), flow, scope);
    inbox.dropConnections();
    await run(step(), flow, scope);
    expect([inbox.logins.length, inbox.messages.length]).toEqual([3, 3]);
  });

  it('[CTX-21] a literal shares no session: three steps, three logins', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await using scope = scopeFor();
    for (let one = 0; one < 3; one++)
      await run(step({ BasicEmailSessionDetails: details(inbox.port) }), {}, scope);
    expect([inbox.logins.length, inbox.messages.length]).toEqual([3, 3]);
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('[CTX-22] Close Session true closes the session after the e-mail was sent', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await using scope = scopeFor();
    const flow = { variables: { details: details(inbox.port) } };
    await run(step({ CloseSession: true }), flow, scope);
    expect(inbox.messages).toHaveLength(1);
    await expect.poll(() => inbox.openConnections).toBe(0);
    // All of them, when steps side by side have opened several.
    await Promise.all([1, 2, 3].map(() => run(step(), flow, scope)));
    expect(inbox.openConnections).toBeGreaterThan(1);
    await run(step({ CloseSession: true }), flow, scope);
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('[CTX-23] a variable that leaves its scope takes its session with it, and no other', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const flow = { variables: { details: details(inbox.port), other: details(inbox.port) } };
    await using scope = scopeFor();
    await run(step(), flow, scope);
    await run(step({ BasicEmailSessionDetails: { $variable: 'other' } }), flow, scope);
    expect([inbox.connections, inbox.openConnections]).toEqual([2, 2]);
    await scope.closeVariable('details');
    await expect.poll(() => inbox.openConnections).toBe(1);
    await run(step({ BasicEmailSessionDetails: { $variable: 'other' } }), flow, scope);
    expect(inbox.connections).toBe(2);
  });

  it('[CTX-23] an error in the middle of a flow does not keep sessions open', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const flow = { variables: { details: details(inbox.port) } };
    const failing = async () => {
      await using scope = scopeFor();
      await run(step(), flow, scope);
      throw new Error('the flow broke');
    };
    await expect(failing()).rejects.toThrow('the flow broke');
    await expect.poll(() => inbox.openConnections).toBe(0);
  });
});

const wrong = (change: object, more: object = {}) => ({
  EmailMessage: { ...example, ...change },
  BasicEmailSessionDetails: details(1),
  ...more,
});
const session = (more: object) => wrong({}, { BasicEmailSessionDetails: { ...details(1), ...more } });
const server = (more: object) =>
  session({ ServerDetails: { Host: 'localhost', Port: 25, UseSsl: true, ...more } });

describe('exceptions of properties', () => {
  it.each([
    ['CTX-24', 'ArgumentException', 'EmailMessage.BodyFormat', () => wrong({ BodyFormat: 10 })],
    ['CTX-24', 'ArgumentException', 'EmailMessage.BodyFormat', () => wrong({ BodyFormat: 'Rtf' })],
    ['CTX-25', 'ArgumentException', 'EmailMessage.Priority', () => wrong({ Priority: 10 })],
    ['CTX-25', 'ArgumentException', 'EmailMessage.Priority', () => wrong({ Priority: -1 })],
    [
      'CTX-36',
      'PropertyNullException',
      'BasicEmailSessionDetails',
      () => wrong({}, { BasicEmailSessionDetails: null }),
    ],
    [
      'CTX-37',
      'PropertyNullException',
      'BasicEmailSessionDetails.Credentials',
      () => session({ Credentials: null }),
    ],
    [
      'CTX-38',
      'PropertyNullException',
      'BasicEmailSessionDetails.ServerDetails',
      () => session({ ServerDetails: null }),
    ],
    [
      'CTX-39',
      'PropertyNullException',
      'BasicEmailSessionDetails.ServerDetails.Host',
      () => server({ Host: null }),
    ],
    ['CTX-40', 'PropertyNullException', 'EmailMessage', () => ({ ...wrong({}), EmailMessage: null })],
    ['CTX-41', 'PropertyNullException', 'EmailMessage.To', () => wrong({ To: null })],
    ['CTX-42', 'PropertyNullException', 'EmailMessage.From', () => wrong({ From: null })],
    ['CTX-43', 'PropertyNullException', 'EmailMessage.Cc[0].Address', () => wrong({ Cc: [address(null)] })],
    [
      'CTX-44',
      'PropertyEmptyException',
      'BasicEmailSessionDetails.ServerDetails.Host',
      () => server({ Host: '' }),
    ],
    ['CTX-45', 'PropertyEmptyException', 'EmailMessage.To', () => wrong({ To: [] })],
    ['CTX-46', 'PropertyEmptyException', 'EmailMessage.From.Address', () => wrong({ From: address('') })],
    [
      'CTX-47',
      'PropertyValueOutOfRangeException',
      'BasicEmailSessionDetails.ServerDetails.Port',
      () => server({ Port: 0 }),
    ],
    [
      'CTX-47',
      'PropertyValueOutOfRangeException',
      'BasicEmailSessionDetails.ServerDetails.Port',
      () => server({ Port: 65536 }),
    ],
    [
      'CTX-48',
      'SmtpCommandException',
      'EmailMessage.To[0].Address',
      () => wrong({ To: [address('not an address')] }),
    ],
  ])('[%s] %s for %s', async (_, name, property, settings) => {
    const outcome = await run(settings());
    expect(outcome).toMatchObject({
      kind: 'halt',
      error: { phase: 'validate', platform: { name, property } },
    });
    if (!('error' in outcome)) throw new Error('sent');
    expect(outcome.error.platform?.helpLink).toMatch(/^https:/);
    expect(outcome.error.platform?.message).toContain(
      name === 'SmtpCommandException' ? 'not an address' : property,
    );
  });

  it('[CTX-34] FileNotFoundException for an attachment that is not there', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const settings = wrong(
      { Attachments: [join(folder, 'gone.txt')] },
      { BasicEmailSessionDetails: details(inbox.port) },
    );
    expect(await run(settings)).toMatchObject({
      kind: 'halt',
      error: { platform: { name: 'FileNotFoundException' } },
    });
    expect(inbox.messages).toEqual([]);
  });

  it.each([
    ['a folder', () => join(folder, 'inner')],
    ['a file outside of what is allowed', () => '/etc/hostname'],
  ])('[CTX-49] UnauthorizedAccessException for %s', async (_, path) => {
    expect(await run(wrong({ Attachments: [path()] }))).toMatchObject({
      error: { platform: { name: 'UnauthorizedAccessException' } },
    });
  });

  it('[CTX-35] IOException when the socket is held by another process', () => {
    const held = new MailError('CONNECTION_UNREACHABLE', 'x', {
      phase: 'connect',
      details: { reason: 'EADDRINUSE' },
    });
    expect(describeCortexError(held, 'smtp')).toMatchObject({
      retryable: true,
      platform: { name: 'IOException' },
    });
  });
});

describe('EmailSessionException', () => {
  const resolve =
    (host: string): Lookup =>
    async (name) => {
      if (name === host) return [{ address: '127.0.0.1', family: 4 }];
      throw Object.assign(new Error('no such host'), { code: 'ENOTFOUND' });
    };
  async function failure(Host: string, Port: number, UseSsl: boolean) {
    await using scope = scopeFor({ lookup: resolve('localhost') });
    const BasicEmailSessionDetails = { ...details(1), ServerDetails: { Host, Port, UseSsl } };
    const outcome = await run({ EmailMessage: example, BasicEmailSessionDetails }, {}, scope);
    if (!('error' in outcome)) throw new Error('sent');
    expect(outcome.kind).toBe('halt');
    expect(outcome.error.platform).toMatchObject({ name: 'EmailSessionException' });
    expect(outcome.error.platform?.helpLink).toMatch(
      new RegExp(`email-session-exception#${outcome.error.platform?.number}$`),
    );
    return outcome.error;
  }
  async function refusing(options: SmtpInboxOptions, UseSsl: boolean) {
    await using inbox = await SmtpInbox.start({ users, ...options });
    return await failure('localhost', inbox.port, UseSsl);
  }

  it('[CTX-26] Socket 100: a port where nothing listens', async () => {
    const inbox = await SmtpInbox.start();
    const { port } = inbox;
    await inbox.close();
    const { platform } = await failure('localhost', port, false);
    expect(platform).toMatchObject({ category: 'Socket', number: 100, numberName: 'InvalidPort' });
    expect(platform?.message).toContain(`'Host' ('localhost') cannot be reached on 'Port' (${port})`);
  });

  it('[CTX-27] Socket 101: a host that does not exist', async () => {
    const { platform } = await failure('nowhere.example', 25, false);
    expect(platform).toMatchObject({ category: 'Socket', number: 101, numberName: 'InvalidHost' });
    expect(platform?.message).toContain("'Host' ('nowhere.example')");
  });

  it.each([' localhost ', 'smtp://localhost', 'localhost:25'])(
    '[CTX-27] Socket 101: %j is no host',
    async (Host) => {
      const { platform, phase } = await failure(Host, 25, false);
      expect(platform).toMatchObject({
        number: 101,
        property: 'BasicEmailSessionDetails.ServerDetails.Host',
      });
      expect(phase).toBe('validate');
    },
  );

  it('[CTX-50] SSL 201: another machine that offers no TLS gets no credentials, unless that is allowed', async () => {
    await using inbox = await SmtpInbox.start({ users });
    await using scope = scopeFor({ lookup: async () => [{ address: '127.0.0.1', family: 4 }] });
    const BasicEmailSessionDetails = {
      ...details(1),
      ServerDetails: { Host: 'mail.example.com', Port: inbox.port, UseSsl: false },
    };
    const settings = { EmailMessage: example, BasicEmailSessionDetails };
    const refused = await run(settings, {}, scope);
    expect(refused).toMatchObject({
      error: { code: 'AUTH_IN_CLEAR_REFUSED', platform: { category: 'SSL', number: 201 } },
    });
    expect(JSON.stringify(refused)).not.toContain("'Use SSL' must be");
    expect(inbox.authAttempts).toEqual([]);
    expect(await run({ ...settings, AllowPlaintextAuth: true }, {}, scope)).toMatchObject({
      receipt: { status: 'sent' },
    });
  });

  it.each([
    ['CTX-51', 'CERTIFICATE_PASSWORD_WRONG', 400, 'InvalidCertificate'],
    ['CTX-52', 'TOKEN_CLIENT_REFUSED', 401, 'InvalidGmailClientCredentials'],
  ] as const)('[%s] OAuthCredentials: %s is %d', (_, code, number, numberName) => {
    const { platform } = describeCortexError(new MailError(code, 'x', { phase: 'token' }), 'smtp');
    expect(platform).toMatchObject({ category: 'OAuthCredentials', number, numberName });
  });

  it('[CTX-26] Socket 100: a port that does not answer in time', () => {
    const late = new MailError('CONNECTION_TIMED_OUT', 'x', {
      phase: 'connect',
      details: { host: 'h', port: 25 },
    });
    expect(describeCortexError(late, 'smtp').platform).toMatchObject({ category: 'Socket', number: 100 });
  });

  it('[CTX-28] SSL 200: UseSsl is false and the port wants TLS from the first byte', async () => {
    const { platform } = await refusing({ tls: 'implicit', certificate: certificates.valid }, false);
    expect(platform).toMatchObject({ category: 'SSL', number: 200, numberName: 'SslRequired' });
  });

  it('[CTX-29] SSL 201: UseSsl is true and the port has no TLS from the first byte', async () => {
    const { platform, code } = await refusing({ tls: 'starttls', certificate: certificates.valid }, true);
    expect(platform).toMatchObject({ category: 'SSL', number: 201, numberName: 'SslUnsupported' });
    expect(code).toBe('TLS_WRONG_MODE');
  });

  it.each([
    ['CTX-30', 'expired', 'TLS_CERTIFICATE_EXPIRED'],
    ['CTX-30', 'notYetValid', 'TLS_CERTIFICATE_NOT_YET_VALID'],
    ['CTX-30', 'wrongHost', 'TLS_CERTIFICATE_WRONG_HOST'],
    ['CTX-31', 'selfSigned', 'TLS_CERTIFICATE_UNTRUSTED'],
  ] as const)('[%s] SSL 201 for a certificate that is %s, told apart as %s', async (_, which, expected) => {
    const { platform, code } = await refusing({ tls: 'implicit', certificate: certificates[which] }, true);
    expect(platform).toMatchObject({ category: 'SSL', number: 201 });
    expect(code).toBe(expected);
  });

  it('[CTX-32] a revocation server that is down stops nobody: revocation lists are not asked', async () => {
    await runExample(example, true);
  });

  it('[CTX-33] UserCredentials 300: user name or password is incorrect', async () => {
    const { platform, code } = await refusing({ users: { 'sender@gmail.com': 'another' } }, false);
    expect(platform).toMatchObject({
      category: 'UserCredentials',
      number: 300,
      numberName: 'InvalidUserCredentials',
    });
    expect(code).toBe('AUTH_REFUSED');
  });

  it.each([
    ['AUTH_MECHANISM_UNAVAILABLE', { users, authMethods: ['XOAUTH2'] }, 'share no login mechanism'],
    ['AUTH_NOT_OFFERED', {}, 'offers no login'],
  ] as const)(
    '[CTX-33] %s is 300, and does not say that a password is wrong',
    async (known, server, text) => {
      await using inbox = await SmtpInbox.start(server);
      const { platform, code } = await failure('localhost', inbox.port, false);
      expect(code).toBe(known);
      expect(platform).toMatchObject({ number: 300, message: expect.stringContaining(text) });
    },
  );

  it('[CTX-27] SSL 201 where the connection ends as soon as TLS begins', async () => {
    await using server = await RawServer.start((socket) => socket.once('data', () => socket.destroy()));
    const { platform, code } = await failure('localhost', server.port, true);
    expect(platform).toMatchObject({ category: 'SSL', number: 201 });
    expect(code).toBe('CONNECTION_LOST');
  });
});
