import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  createTestCertificates,
  SmtpInbox,
  type SmtpInboxOptions,
  type TestCertificates,
} from '@flowpost/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { message, password, Workplace } from './testing/flowpost.test-support.ts';

const encoded = encodeURIComponent(password);

let place: Workplace;
let folder: string;
let certificates: TestCertificates;
beforeAll(async () => {
  certificates = await createTestCertificates();
  place = await Workplace.make({ 'ca.pem': certificates.authority.cert, 'note.txt': 'a note' });
  folder = place.folder;
});
afterAll(() => place[Symbol.asyncDispose]());

const start = (args: readonly string[], env?: NodeJS.ProcessEnv) => place.start(args, env);
const flowpost = (args: readonly string[], env?: NodeJS.ProcessEnv, input?: string) =>
  place.flowpost(args, env, input);

async function failing(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { code, out, err } = await flowpost(['send', ...args, '--json'], env);
  expect(err).toBe('');
  const { error } = JSON.parse(out);
  expect(error).toEqual({
    code: expect.any(String),
    category: expect.any(String),
    phase: expect.any(String),
    retryable: expect.any(Boolean),
    inDoubt: expect.any(Boolean),
    hint: expect.stringMatching(/\.$/),
    message: expect.any(String),
    ...(error.details && { details: expect.any(Object) }),
  });
  return { code, error };
}

describe('send', () => {
  it('delivers, with every option, and prints the receipt', async () => {
    await using inbox = await SmtpInbox.start();
    await writeFile(join(folder, 'logo.png'), Buffer.from([0x89, 0x50]));
    await writeFile(join(folder, 'page.html'), '<img src="cid:logo">');
    const { code, out, err } = await flowpost([
      'send',
      ...['--connection', inbox.url, '--from', 'A <a@x.org>', '--to', 'b@x.org,c@x.org', '--to', 'd@x.org'],
      ...[
        '--cc',
        'e@x.org',
        '--bcc',
        'f@x.org',
        '--reply-to',
        'g@x.org',
        '--subject',
        'Grüße',
        '--text',
        'Hello',
      ],
      ...['--html', '@page.html', '--attach', 'note.txt', '--inline', 'logo=logo.png', '--priority', 'high'],
      ...['--header', 'X-One: 1', '--header', 'X-One: 2', '--json'],
    ]);
    expect([code, err]).toEqual([0, '']);
    expect(JSON.parse(out)).toMatchObject({
      status: 'sent',
      accepted: ['b', 'c', 'd', 'e', 'f'].map((n) => `${n}@x.org`),
    });
    expect(inbox.messages[0]).toMatchObject({
      subject: 'Grüße',
      text: 'Hello',
      html: '<img src="cid:logo">',
      replyTo: [{ address: 'g@x.org' }],
    });
    expect(inbox.messages[0]?.headers.get('x-one')).toEqual(['X-One: 1', 'X-One: 2']);
    expect(
      inbox.messages[0]?.attachments.map(({ disposition, filename }) => [disposition, filename]),
    ).toEqual([
      ['inline', 'logo.png'],
      ['attachment', 'note.txt'],
    ]);
  });

  it('talks to people on standard error, in colour only at a terminal', async () => {
    await using inbox = await SmtpInbox.start({
      refuse: { rcptTo: (to) => (to === 'no@x.org' ? { code: 550, text: '5.1.1 unknown' } : undefined) },
    });
    const { code, out, err } = await flowpost([
      'send',
      '--connection',
      inbox.url,
      ...message,
      '--to',
      'no@x.org',
    ]);
    expect([code, out]).toEqual([69, '']);
    expect(err).toMatch(
      /^Sent in part <.+> to b@x\.org\n {2}refused: no@x\.org \(550 5\.1\.1 unknown\)\n {2}server: 250 /,
    );
    const { err: failure } = await flowpost(['send', '--connection', inbox.url, ...message, '--to', 'x@']);
    expect(failure).toContain('Not sent: ');
  });

  it('says what became of the message even when nobody listens', async () => {
    await using inbox = await SmtpInbox.start();
    for (const silenced of ['stdout', 'stderr'] as const) {
      const child = start([
        'send',
        '--connection',
        inbox.url,
        ...message,
        ...(silenced === 'stdout' ? ['--json'] : []),
      ]);
      child[silenced].destroy();
      expect(await once(child, 'close')).toEqual([0, null]);
    }
    expect(inbox.messages).toHaveLength(2);
  });

  it('takes connections from a file, by name and from the environment, with encrypted passwords', async () => {
    await using inbox = await SmtpInbox.start({ users: { me: password } });
    const keys = (await flowpost(['secret', 'keygen', '2026'])).out.trim();
    expect(keys).toMatch(/^2026:[\w-]{43}$/);
    const env = { FLOWPOST_KEYS: keys };
    const encrypted = (await flowpost(['secret', 'encrypt'], env, `${password}\n`)).out.trim();
    const connection = {
      host: inbox.host,
      port: inbox.port,
      auth: { kind: 'basic', username: 'me', password: encrypted },
    };
    await writeFile(join(folder, 'connection.json'), JSON.stringify(connection));
    await writeFile(join(folder, 'flowpost.connections.json'), JSON.stringify({ office: connection }));
    const newer = (await flowpost(['secret', 'keygen'])).out.trim();
    const rotated = await flowpost(['secret', 'rotate'], { FLOWPOST_KEYS: `${newer},${keys}` }, encrypted);
    expect([rotated.code, rotated.out === `${encrypted}\n`]).toEqual([0, false]);

    expect((await flowpost(['send', '--connection', 'connection.json', ...message], env)).code).toBe(0);
    expect((await flowpost(['send', '--connection', '@office', ...message], env)).code).toBe(0);
    const url = `smtp://me:${encoded}@127.0.0.1:${inbox.port}`;
    expect((await flowpost(['send', ...message], { FLOWPOST_CONNECTION: url })).code).toBe(0);
    expect(inbox.logins).toEqual(['me', 'me', 'me']);
    expect((await failing(['--connection', '@home', ...message])).error.code).toBe('CONNECTION_INVALID');
    expect((await failing(['--connection', 'connection.json', ...message])).error.code).toBe(
      'SECRET_KEY_MISSING',
    );
  });
});

describe('bad input: exit code, error code, and nothing sent', () => {
  const nowhere = ['--connection', 'smtp://127.0.0.1:2'];
  it.each<[string, string[], number, string]>([
    ['no recipients', [...nowhere, '--from', 'a@x.org', '--subject', 'Hi'], 65, 'RECIPIENTS_MISSING'],
    ['a bad list', [...nowhere, ...message, '--to', 'a@b, , c@'], 65, 'ADDRESS_INVALID'],
    [
      'CRLF in an address',
      [...nowhere, ...message, '--cc', 'a@x.org\r\nBcc: e@x.org'],
      65,
      'ADDRESS_INVALID',
    ],
    ['CRLF in the subject', [...nowhere, ...message, '--subject', 'a\r\nBcc: e@x.org'], 65, 'HEADER_INVALID'],
    [
      'CRLF in a header',
      [...nowhere, ...message, '--header', 'X-A: 1\r\nBcc: e@x.org'],
      65,
      'HEADER_INVALID',
    ],
    ['an unknown priority', [...nowhere, ...message, '--priority', 'urgent'], 65, 'INPUT_INVALID'],
    ['a missing text file', [...nowhere, ...message, '--text', '@missing.txt'], 65, 'FILE_UNREADABLE'],
    ['a missing attachment', [...nowhere, ...message, '--attach', 'missing.pdf'], 66, 'ATTACHMENT_NOT_FOUND'],
    ['a folder as attachment', [...nowhere, ...message, '--attach', '.'], 66, 'ATTACHMENT_NOT_A_FILE'],
    [
      'an attachment from a private network',
      [...nowhere, ...message, '--attach', 'https://169.254.169.254/latest'],
      66,
      'ATTACHMENT_URL_REFUSED',
    ],
    ['port 0', ['--connection', `smtp://me:${encoded}@x.org:0`, ...message], 78, 'CONNECTION_INVALID'],
    [
      'port 70000',
      ['--connection', `smtp://me:${encoded}@x.org:70000`, ...message],
      78,
      'CONNECTION_INVALID',
    ],
    ['a malformed URL', ['--connection', `smtp://me:${encoded}@/x`, ...message], 78, 'CONNECTION_INVALID'],
    ['a wrong scheme', ['--connection', `https://me:${encoded}@x.org`, ...message], 78, 'CONNECTION_INVALID'],
    [
      'a header that is a property of every object',
      [...nowhere, ...message, '--header', 'constructor: a\r\nb'],
      65,
      'HEADER_INVALID',
    ],
    ['a missing connection file', ['--connection', 'missing.json', ...message], 78, 'CONNECTION_INVALID'],
    [
      'an unknown host',
      ['--connection', `smtp://me:${encoded}@nowhere.invalid`, ...message],
      78,
      'HOST_NOT_FOUND',
    ],
    ['an unknown option', ['--colour', 'red'], 64, 'USAGE'],
    ['no connection', message, 64, 'USAGE'],
    ['a header without a colon', [...nowhere, ...message, '--header', 'X-A'], 64, 'USAGE'],
  ])('%s', async (_, args, code, errorCode) => {
    const result = await failing(args);
    expect([result.code, result.error.code]).toEqual([code, errorCode]);
    expect(result.error).toMatchObject({ retryable: false, inDoubt: false });
  });

  it('an unknown service, in a connection file', async () => {
    const connection = { service: 'Gmial', auth: { kind: 'basic', username: 'me', password } };
    await writeFile(join(folder, 'service.json'), JSON.stringify(connection));
    const { code, error } = await failing(['--connection', 'service.json', ...message]);
    expect([code, error.code]).toEqual([78, 'SERVICE_UNKNOWN']);
  });

  it('a closed port', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    const { code, error } = await failing(['--connection', `smtp://127.0.0.1:${port}`, ...message]);
    expect([code, error.code, error.retryable]).toEqual([75, 'CONNECTION_REFUSED', true]);
  });
});

describe('servers that do not fit', () => {
  const login = `me:${encoded}@localhost`;
  const secure = (
    tls: 'implicit' | 'starttls',
    kind: 'valid' | 'expired' | 'wrongHost' | 'selfSigned',
  ): SmtpInboxOptions => ({
    tls,
    certificate: certificates[kind],
    users: { me: 'other' },
  });
  it.each<[string, () => SmtpInboxOptions, string, number, string]>([
    ['a wrong password', () => ({ users: { me: 'other' } }), `smtp://${login}:PORT`, 77, 'AUTH_REFUSED'],
    ['implicit TLS to a plain port', () => ({}), `smtps://${login}:PORT`, 78, 'TLS_WRONG_MODE'],
    [
      'STARTTLS to a TLS port',
      () => secure('implicit', 'valid'),
      `smtp://${login}:PORT?tls=starttls`,
      78,
      'TLS_WRONG_MODE',
    ],
    [
      'an expired certificate',
      () => secure('implicit', 'expired'),
      `smtps://${login}:PORT?caFile=ca.pem`,
      69,
      'TLS_CERTIFICATE_EXPIRED',
    ],
    [
      'an untrusted one',
      () => secure('starttls', 'selfSigned'),
      `smtp://${login}:PORT?caFile=ca.pem`,
      69,
      'TLS_CERTIFICATE_UNTRUSTED',
    ],
    [
      'one for another host',
      () => secure('starttls', 'wrongHost'),
      `smtp://${login}:PORT?caFile=ca.pem`,
      69,
      'TLS_CERTIFICATE_WRONG_HOST',
    ],
    [
      'no STARTTLS',
      () => ({ users: { me: 'other' } }),
      `smtp://${login}:PORT?tls=starttls`,
      69,
      'TLS_NOT_OFFERED',
    ],
    [
      'a refused recipient',
      () => ({ refuse: { rcptTo: () => ({ code: 550, text: '5.1.1 no' }) } }),
      'smtp://localhost:PORT',
      69,
      'RECIPIENTS_REFUSED',
    ],
    [
      'a busy server',
      () => ({ refuse: { mailFrom: () => ({ code: 451, text: '4.3.0 later' }) } }),
      'smtp://localhost:PORT',
      75,
      'SENDER_DEFERRED',
    ],
  ])('%s', async (_, server, url, code, errorCode) => {
    await using inbox = await SmtpInbox.start(server());
    const result = await failing(['--connection', url.replace('PORT', String(inbox.port)), ...message]);
    expect([result.code, result.error.code]).toEqual([code, errorCode]);
    expect(inbox.messages).toEqual([]);
  });

  it('a lost reply is in doubt', async () => {
    await using inbox = await SmtpInbox.start({
      refuse: {
        message: () => {
          inbox.dropConnections();
          return undefined;
        },
      },
    });
    const { code, error } = await failing(['--connection', inbox.url, ...message]);
    expect([code, error.code, error.inDoubt, error.retryable]).toEqual([
      76,
      'DELIVERY_IN_DOUBT',
      true,
      false,
    ]);
  });
});

describe('verify', () => {
  it('says each step, and fails with the exit code of what failed', async () => {
    await using inbox = await SmtpInbox.start({ users: { me: password } });
    const good = `smtp://me:${encoded}@127.0.0.1:${inbox.port}?from=a@x.org`;
    const { code, out, err } = await flowpost(['verify', '--connection', good]);
    expect([code, out]).toEqual([0, '']);
    expect(err.match(/^(ok|skipped|failed) +\w+/gm)?.map((line) => line.replace(/ +/, ' '))).toEqual([
      'ok dns',
      'ok tcp',
      'skipped tls',
      'ok ehlo',
      'skipped token',
      'ok auth',
      'ok sender',
    ]);
    const wrong = await flowpost([
      'verify',
      '--connection',
      `smtp://me:wrong@127.0.0.1:${inbox.port}`,
      '--json',
    ]);
    expect([wrong.code, JSON.parse(wrong.out).ok]).toEqual([77, false]);
    expect(inbox.messages).toEqual([]);
  });
});

describe('services', () => {
  it('lists them all, and tells what is known of one', async () => {
    const all = await flowpost(['services']);
    expect(all.out.split('\n').length).toBeGreaterThan(80);
    const one = await flowpost(['services', 'Office365']);
    expect(one.out).toContain('smtp.office365.com:587, STARTTLS');
    expect(one.out).toContain('3 connections, 30/min');
    const json = await flowpost(['services', 'gmail', '--json']);
    expect(JSON.parse(json.out)).toMatchObject({
      name: 'Gmail',
      profile: { appPasswordUrl: expect.any(String) },
    });
    expect((await flowpost(['services', 'Gmial'])).code).toBe(78);
  });
});

it('send --verbose shows the dialogue, and no secret', async () => {
  await using inbox = await SmtpInbox.start({ users: { me: password } });
  const connection = `smtp://me:${encoded}@127.0.0.1:${inbox.port}`;
  const { code, err } = await flowpost(['send', '--connection', connection, '--verbose', ...message]);
  expect(code).toBe(0);
  expect(err).toContain('> AUTH PLAIN ***\n< 235');
  expect(err).toContain('> MAIL FROM:<a@x.org>');
});

describe('preview', () => {
  it('prints the bytes that send hands over, and sends nothing', async () => {
    await using inbox = await SmtpInbox.start();
    const fixed = [
      ...message,
      ...['--attach', join(folder, 'note.txt'), '--attach', 'data:text/csv;name=a.csv,1,2'],
      ...['--html', '<p>Hello</p>'],
    ];
    const { code, out, err } = await flowpost(['preview', '--connection', inbox.url, ...fixed]);
    expect({ code, err, sent: inbox.messages.length }).toEqual({ code: 0, err: '', sent: 0 });
    await flowpost(['send', '--connection', inbox.url, ...fixed]);
    const [mail] = await inbox.waitForMessages(1);
    // Two messages have two ids and dates; everything else is the same.
    const withoutIds = (raw: string) =>
      raw
        .replace(/^Date: .*$/m, '')
        .replace(/^Message-ID: .*$/m, '')
        .replace(/=_[0-9a-z]+_/g, '=_');
    expect(withoutIds(out)).toBe(withoutIds(mail?.raw.toString() ?? ''));
    expect(mail?.attachments.map(({ filename }) => filename)).toEqual(['note.txt', 'a.csv']);
  });

  it('needs no connection, takes the file of a run too, and fails as that would', async () => {
    expect((await flowpost(['preview', ...message])).out).toMatch(/^From: a@x\.org\r\n[\s\S]*\r\nHello\r\n$/);
    const settings = {
      connection: 'smtp://127.0.0.1:1',
      from: 'a@x.org',
      to: 'b@x.org',
      text: 'from a file',
    };
    await writeFile(join(folder, 'step.json'), JSON.stringify({ node: 'send-email', settings }));
    expect((await flowpost(['preview', 'step.json'])).out).toContain('from a file');
    const failed = await flowpost(['preview', ...message, '--attach', 'http://127.0.0.1/secret']);
    expect(failed).toMatchObject({ code: 66, out: '' });
    expect(failed.err).toContain('ATTACHMENT_URL_REFUSED');
  });
});

describe('run', () => {
  const step = (url: string, settings: { stopOnError?: boolean; [key: string]: unknown } = {}) => ({
    node: 'send-email',
    settings: { connection: url, from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello', ...settings },
    flow: { context: { keep: 1 }, variables: { login: { password: 'hunter2' } } },
  });

  it('prints outcome and flow, and takes flow data and connection from elsewhere', async () => {
    await using inbox = await SmtpInbox.start();
    const store = { target: 'context', key: 'mail.result' };
    const attachments = [{ kind: 'file', path: 'note.txt' }];
    await writeFile(
      join(folder, 'step.json'),
      JSON.stringify(step('smtp://127.0.0.1:2', { store, attachments })),
    );
    await writeFile(join(folder, 'flow.json'), JSON.stringify({ input: { a: 1 } }));
    const { code, out, err } = await flowpost(['run', 'step.json', '--connection', inbox.url]);
    expect(code).toBe(0);
    expect(err).toContain('Sent <');
    expect(JSON.parse(out)).toMatchObject({
      outcome: { kind: 'continue', receipt: { status: 'sent' } },
      flow: { context: { keep: 1, mail: { result: { status: 'sent' } } } },
    });
    expect(out).not.toContain('hunter2');
    const other = await flowpost([
      'run',
      'step.json',
      '--flow',
      'flow.json',
      '--connection',
      inbox.url,
      '--json',
    ]);
    expect(other.err).toBe('');
    expect(JSON.parse(other.out).flow).toMatchObject({ input: { a: 1 }, context: { mail: {} } });
    expect(inbox.messages[0]?.attachments).toMatchObject([{ filename: 'note.txt', size: 6 }]);
  });

  it.each<[string, unknown, number, string]>([
    ['a failing step', step('smtp://127.0.0.1:2'), 75, 'CONNECTION_REFUSED'],
    [
      'one that lets the flow go on',
      step('smtp://127.0.0.1:2', { stopOnError: false }),
      75,
      'CONNECTION_REFUSED',
    ],
    ['bad settings', step('smtp://127.0.0.1:2', { to: 'x@' }), 65, 'ADDRESS_INVALID'],
    [
      'a file outside',
      step('smtp://127.0.0.1:2', { attachments: [{ kind: 'file', path: '/etc/passwd' }] }),
      66,
      'ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS',
    ],
  ])('%s', async (_, content, code, errorCode) => {
    await writeFile(join(folder, 'failing.json'), JSON.stringify(content));
    const result = await flowpost(['run', 'failing.json', '--json']);
    const { outcome, flow } = JSON.parse(result.out);
    expect([result.code, outcome.error.code, flow.context]).toEqual([code, errorCode, { keep: 1 }]);
    expect(outcome.kind).toBe(
      (content as ReturnType<typeof step>).settings.stopOnError === false ? 'continue' : 'halt',
    );
  });

  it.each<[string, string, number, string]>([
    [
      'an unknown node',
      JSON.stringify({ ...step('smtp://x.org'), node: 'send-fax' }),
      65,
      'NODE_TYPE_UNKNOWN',
    ],
    ['no settings', '{}', 65, 'INPUT_INVALID'],
    ['broken JSON', `{ "password": "${password}"`, 65, 'FILE_UNREADABLE'],
    ['bad flow data', JSON.stringify({ ...step('smtp://x.org'), flow: { context: 1 } }), 65, 'INPUT_INVALID'],
  ])('%s', async (_, content, code, errorCode) => {
    await writeFile(join(folder, 'broken.json'), content);
    const result = await flowpost(['run', 'broken.json', '--json']);
    expect([result.code, JSON.parse(result.out).error.code]).toEqual([code, errorCode]);
  });
});

describe('catch', () => {
  it('shows what arrives, keeps it in a folder, and ends when told to', async () => {
    // Nothing of an authorization server is loaded, which would not start in such a process.
    const strict = { NODE_OPTIONS: '--disallow-code-generation-from-strings' };
    const catcher = start(['catch', '--port', '0', '--dir', 'caught', '--json'], strict);
    const lines = createInterface({ input: catcher.stdout })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value ?? 'null');
    const { listening } = await next();
    const arriving = next();
    expect(
      (await flowpost(['send', '--connection', listening.url, ...message, '--attach', 'note.txt'])).code,
    ).toBe(0);
    const mail = await arriving;
    expect(mail).toMatchObject({
      from: 'a@x.org',
      to: ['b@x.org'],
      subject: 'Hi',
      text: 'Hello',
      attachments: [{ filename: 'note.txt', contentType: 'text/plain', size: 6 }],
      file: join('caught', '0001.eml'),
    });
    expect(await readFile(join(folder, mail.file), 'utf8')).toContain('\r\nSubject: Hi\r\n');
    const taken = await flowpost(['catch', '--port', String(listening.port)]);
    expect([taken.code, taken.err]).toEqual([64, expect.stringContaining('is taken')]);
    const file = await flowpost(['catch', '--port', '0', '--dir', 'note.txt']);
    expect([file.code, file.err]).toEqual([64, expect.stringContaining('cannot be a folder')]);
    catcher.kill('SIGTERM');
    expect(await once(catcher, 'close')).toEqual([0, null]);
  });
});

it('catch writes over no earlier message, and takes none it cannot keep', async () => {
  for (const expected of ['0001.eml', '0002.eml', undefined]) {
    const catcher = start(['catch', '--port', '0', '--dir', 'kept', '--json']);
    const lines = createInterface({ input: catcher.stdout })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value ?? 'null');
    const { listening } = await next();
    if (expected === undefined) await rm(join(folder, 'kept'), { recursive: true });
    const { code } = await flowpost(['send', '--connection', listening.url, ...message]);
    expect(code).toBe(expected === undefined ? 75 : 0);
    if (expected !== undefined) expect((await next()).file).toBe(join('kept', expected));
    catcher.kill('SIGTERM');
    await once(catcher, 'close');
  }
});

it.each([
  [['--help'], 0, /\n {2}send {2}/],
  [[], 0, /\n {2}send {2}/],
  [['send', '--help'], 0, /flowpost send/],
  [['--version'], 0, /^\d+\.\d+\.\d+\n$/],
  [['fly'], 64, /^$/],
  [['run'], 64, /^$/],
  [['secret', 'encrypt', 'me'], 64, /^$/],
  [['secret', 'encrypt'], 78, /^$/],
])('flowpost %j exits with %d', async (args, code, out) => {
  const result = await flowpost(args);
  expect(result.code).toBe(code);
  expect(result.out).toMatch(out);
});
