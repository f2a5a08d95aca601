import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { isLoopbackHost, parseConnection, resolveTlsMode } from './connection.ts';
import { generateSecretKey, SecretBox } from './encrypted-text.ts';
import { isMailError, type MailError } from './errors/mail-error.ts';
import { SecretText } from './secret.ts';

function refusal(input: unknown): MailError {
  try {
    parseConnection(input as string);
  } catch (error) {
    if (isMailError(error)) return error;
    throw error;
  }
  throw new Error('accepted');
}

describe('the URL form', () => {
  it('gives host, port, TLS mode and credentials', () => {
    const connection = parseConnection('smtps://me%40x.org:p%40ss%3Aw@mail.x.org:465');
    expect(connection).toMatchObject({ kind: 'smtp', host: 'mail.x.org', port: 465, tls: 'implicit' });
    const auth = connection.auth;
    expect(auth).toMatchObject({ kind: 'basic', username: 'me@x.org' });
    expect(auth?.kind === 'basic' && auth.password instanceof SecretText && auth.password.reveal()).toBe(
      'p@ss:w',
    );
  });

  it('takes the other fields from the query', () => {
    expect(
      parseConnection(
        `smtp://[::1]:587?tls=starttls&from=A%20%3Ca+b@x.org%3E&allowPlaintextAuth=true&serverName=x.org&fingerprints=${'AB:'.repeat(31)}CD`,
      ),
    ).toMatchObject({
      host: '::1',
      tls: 'starttls',
      from: { name: 'A', address: 'a+b@x.org' },
      allowPlaintextAuth: true,
      tlsOptions: { serverName: 'x.org', fingerprints: [`${'ab'.repeat(31)}cd`] },
    });
  });

  it('takes a plus sign for what it is, but in a name that a form or a program wrote', () => {
    const from = (query: string) => parseConnection(`smtp://h?from=${query}`).from;
    expect(from('ann+news@x.org')).toEqual({ address: 'ann+news@x.org' });
    expect(from(String(new URLSearchParams({ from: 'A B <ann+news@x.org>' })).slice(5))).toEqual({
      name: 'A B',
      address: 'ann+news@x.org',
    });
    const program = new URLSearchParams({ from: '"I <3 You" <a+b@x.org>', caFile: '/my certs/a+b.pem' });
    expect(parseConnection(`smtp://h?${program}`)).toMatchObject({
      from: { name: 'I <3 You', address: 'a+b@x.org' },
      tlsOptions: { caFile: '/my certs/a+b.pem' },
    });
    // Who escapes the @ alone has not escaped the rest.
    expect(from('ann+news%40x.org')).toEqual({ address: 'ann+news@x.org' });
    expect(parseConnection('smtps://h?caFile=ca+root.pem')).toMatchObject({
      tlsOptions: { caFile: 'ca+root.pem' },
    });
  });

  it.each([
    ['nonsense', 'it must look like'],
    ['http://x.org', 'the scheme must be smtp, smtps or lmtp'],
    ['smtp://', 'there is no host name'],
    ['smtp://:25', 'there is no host name'],
    ['smtp://x.org:0', 'the port must be a whole number from 1 to 65535'],
    ['smtp://x.org:70000', 'the port must be a whole number from 1 to 65535'],
    ['smtp://x.org:', 'the port must be a whole number'],
    ['smtp://x.org:smtp', 'the port must be a whole number'],
    ['smtp://user@x.org', 'there is a user name but no password'],
    ['smtp://:hunter2@x.org', 'there is no user name'],
    ['smtp://u:hunter2%zz@x.org', 'the password holds a %'],
    ['smtp://u:hunter2@x.org?colour=red', '"colour" is not a known setting'],
    ['smtp://u:hunter2@x.org?tls=maybe', 'tls'],
    ['smtp://u:hunter2@x .org', 'host'],
    ['smtp://u:hunter2@x.org/path', 'it must look like'],
    ['smtp://user:hunter2?x@mail:587', 'a part of the query is not a known setting'],
    ['smtps://user:12345?hunter2@mail.example.com', 'a part of the query is not a known setting'],
    ['smtps://u:hunter2@x.org?tls=none', 'smtps means implicit TLS'],
    ['smtp://u:hunter2@x.org?tls=none&tls=starttls', 'tls is given twice'],
  ])('%s is refused, and the refusal repeats no password', (url, message) => {
    const error = refusal(url);
    expect(error).toMatchObject({ code: 'CONNECTION_INVALID', category: 'configuration', phase: 'validate' });
    expect(error.message).toContain(message);
    expect(inspect(error, { depth: 9 }) + JSON.stringify(error)).not.toContain('hunter2');
  });
});

describe('the object form', () => {
  it('needs no kind for SMTP and has the documented defaults', () => {
    expect(parseConnection({ host: 'x.org' })).toMatchObject({
      kind: 'smtp',
      tls: 'auto',
      allowPlaintextAuth: false,
      pipelining: 'across-messages',
      timeouts: { connectMs: 30_000, confirmMs: 600_000 },
    });
  });

  it('is its own fixed point', () => {
    const connection = parseConnection('smtps://u:p@x.org');
    expect(parseConnection(connection)).toEqual(connection);
  });

  it('recognises encrypted text', async () => {
    const { compact } = await new SecretBox([generateSecretKey('k')]).encrypt('p');
    const { auth } = parseConnection({
      host: 'x.org',
      auth: { kind: 'basic', username: 'u', password: compact },
    });
    expect(auth?.kind === 'basic' && auth.password).toMatchObject({ keyId: 'k' });
  });

  it('reports every bad field by path, in one error', () => {
    const error = refusal({
      kind: 'smtp',
      host: 'x.org',
      port: 70000,
      auth: { kind: 'basic', username: '', password: 'hunter2' },
      tlsOptions: { minVersion: 'TLSv1.0' },
      ehloName: 'Mac..Book',
      colour: 'red',
    });
    const paths = (error.details.issues as { path: string }[]).map(({ path }) => path);
    expect(paths.toSorted()).toEqual(['', 'auth.username', 'ehloName', 'port', 'tlsOptions.minVersion']);
    expect(JSON.stringify(error)).not.toContain('hunter2');
  });

  it.each([
    [{}, 'host'],
    [{ service: 'gmail', host: 'x.org' }, 'host'],
    [{ host: '' }, 'host'],
    [{ host: 'x.org', port: 0 }, 'port'],
    [{ host: 'x.org', port: 25.5 }, 'port'],
    [{ host: 'x.org', timeouts: { confirmMs: 3e9 } }, 'timeouts.confirmMs'],
    [
      { host: 'x.org', tls: 'none', tlsOptions: { fingerprints: ['ab'.repeat(32)] } },
      'tlsOptions.fingerprints',
    ],
    [{ host: 'x.org/y' }, 'host'],
    [{ host: 'x.org', auth: { kind: 'magic' } }, 'auth.kind'],
  ])('%j is refused at %s', (input, path) => {
    const error = refusal(input);
    expect(error.code).toBe('CONNECTION_INVALID');
    expect(error.details.issues).toContainEqual(expect.objectContaining({ path }));
  });

  it('prints no password', () => {
    const connection = parseConnection('smtps://u:hunter2@x.org');
    expect(inspect(connection, { depth: 9, showHidden: true }) + JSON.stringify(connection)).not.toContain(
      'hunter2',
    );
  });
});

describe('tls: auto', () => {
  it.each([
    ['mail.x.org', 465, 'implicit'],
    ['127.0.0.1', 465, 'implicit'],
    ['mail.x.org', 587, 'starttls'],
    ['mail.x.org', 25, 'starttls'],
    ['mail.x.org', 2525, 'starttls'],
    ['localhost', 587, 'starttls-if-offered'],
    ['127.1.2.3', 25, 'starttls-if-offered'],
  ] as const)('%s:%d is %s', (host, port, mode) => {
    expect(resolveTlsMode('auto', host, port)).toBe(mode);
  });

  it('leaves other modes alone', () => {
    expect(resolveTlsMode('none', 'mail.x.org', 465)).toBe('none');
  });
});

it.each([
  ['localhost', true],
  ['LOCALHOST.', true],
  ['mail.localhost', true],
  ['127.0.0.1', true],
  ['::1', true],
  ['127.example.com', false],
  ['localhost.example.com', false],
  ['10.0.0.1', false],
])('isLoopbackHost(%s) is %s', (host, loopback) => {
  expect(isLoopbackHost(host)).toBe(loopback);
});

it.each([1, 9, 25, 6000, 10080])('Graph is asked at no port that is for something else: %d', (port) => {
  const auth = {
    kind: 'oauth2-client-credentials',
    user: 'a@x.org',
    tenantId: 't',
    clientId: 'c',
    clientSecret: 's',
  };
  const over = (graphBaseUrl: string) => () =>
    parseConnection({
      kind: 'microsoft365',
      delivery: 'graph',
      tenantId: 't',
      objectId: 'a@x.org',
      auth,
      graphBaseUrl,
    } as never);
  expect(over(`https://graph.example.com:${port}/v1.0`)).toThrow(/graphBaseUrl/);
  for (const good of [81, 444, 8443]) expect(over(`https://graph.example.com:${good}/v1.0`)).not.toThrow();
});

it('Graph takes no password', () => {
  const auth = { kind: 'basic', username: 'me', password: 'secret' } as const;
  const over = (delivery: 'smtp' | 'graph') => () =>
    parseConnection({ kind: 'microsoft365', delivery, tenantId: 't', auth });
  expect(over('smtp')().kind).toBe('microsoft365');
  expect(over('graph')).toThrow(
    expect.objectContaining({ code: 'CONNECTION_INVALID', message: expect.stringContaining('auth') }),
  );
});
