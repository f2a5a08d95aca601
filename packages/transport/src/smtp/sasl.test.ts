import { createHmac } from 'node:crypto';
import { type Login, SecretText } from '@flowpost/core';
import { describe, expect, it } from 'vitest';
import { parseReply } from '../diagnosis/reply-failure.ts';
import { authenticate, loginScrubber } from './sasl.ts';

const server = { host: 'smtp.x.org', port: 587 };
const password: Login = { kind: 'password', username: 'me@x.org', password: new SecretText('hunter2') };
const bearer: Login = { kind: 'bearer', username: 'me@x.org', token: new SecretText('ya29.secret') };
const decode = (text: string): string => Buffer.from(text, 'base64').toString();
const encode = (text: string): string => Buffer.from(text).toString('base64');

/** Plays a server that answers with these replies in turn; gives the lines it got. */
async function exchange(login: Login, offered: string[] | undefined, replies: string[]) {
  const lines: string[] = [];
  const error = await authenticate(login, offered, server, async (line) => {
    lines.push(line);
    const text = replies.shift() ?? '500 enough';
    return parseReply(text) ?? { code: 0, text };
  }).then(
    () => undefined,
    (thrown) => thrown,
  );
  return { lines, error };
}

describe('the mechanism', () => {
  it.each<[Login, string[], string]>([
    [password, ['LOGIN', 'CRAM-MD5', 'PLAIN'], 'PLAIN'],
    [password, ['CRAM-MD5', 'LOGIN', 'XOAUTH2'], 'LOGIN'],
    [password, ['CRAM-MD5', 'XOAUTH2'], 'CRAM-MD5'],
    [bearer, ['PLAIN', 'LOGIN', 'XOAUTH2'], 'XOAUTH2'],
    [bearer, ['XOAUTH2', 'OAUTHBEARER'], 'OAUTHBEARER'],
  ])('for %j of %j is %s', async (login, offered, expected) => {
    const { lines } = await exchange(login, offered, ['235 ok']);
    expect(lines[0]?.split(' ')[1]).toBe(expected);
  });

  it.each<[Login, string[] | undefined, string]>([
    [password, undefined, 'AUTH_NOT_OFFERED'],
    [password, ['XOAUTH2'], 'AUTH_MECHANISM_UNAVAILABLE'],
    [bearer, ['PLAIN', 'LOGIN'], 'AUTH_MECHANISM_UNAVAILABLE'],
  ])('for %j of %j: %s', async (login, offered, code) => {
    expect((await exchange(login, offered, [])).error).toMatchObject({ code, phase: 'auth' });
  });
});

describe('on the wire', () => {
  it('PLAIN', async () => {
    const { lines, error } = await exchange(password, ['PLAIN'], ['235 ok']);
    expect([decode(lines[0]?.slice(11) ?? ''), lines.length, error]).toEqual([
      '\0me@x.org\0hunter2',
      1,
      undefined,
    ]);
  });

  it('LOGIN', async () => {
    const { lines, error } = await exchange(
      password,
      ['LOGIN'],
      ['334 VXNlcm5hbWU6', '334 UGFzc3dvcmQ6', '235 ok'],
    );
    expect([lines[0], ...lines.slice(1).map(decode), error]).toEqual([
      'AUTH LOGIN',
      'me@x.org',
      'hunter2',
      undefined,
    ]);
  });

  it('CRAM-MD5', async () => {
    const challenge = '<1896.697170952@postoffice.example>';
    const { lines, error } = await exchange(password, ['CRAM-MD5'], [`334 ${encode(challenge)}`, '235 ok']);
    const digest = createHmac('md5', 'hunter2').update(challenge).digest('hex');
    expect([lines[0], decode(lines[1] ?? ''), error]).toEqual([
      'AUTH CRAM-MD5',
      `me@x.org ${digest}`,
      undefined,
    ]);
  });

  it('XOAUTH2, refused at once and after a challenge', async () => {
    const direct = await exchange(bearer, ['XOAUTH2'], ['535 5.7.3 Authentication unsuccessful']);
    expect(decode(direct.lines[0]?.slice(13) ?? '')).toBe('user=me@x.org\x01auth=Bearer ya29.secret\x01\x01');
    expect([direct.lines.length, direct.error.code]).toEqual([1, 'AUTH_REFUSED']);
    const challenged = await exchange(
      bearer,
      ['XOAUTH2'],
      [`334 ${encode('{"status":"401"}')}`, '535 5.7.8 no'],
    );
    expect([challenged.lines.slice(1), challenged.error.code]).toEqual([[''], 'AUTH_REFUSED']);
  });

  it('OAUTHBEARER, refused after a challenge', async () => {
    const login: Login = { ...bearer, username: 'a,b=c@x.org' };
    const { lines, error } = await exchange(
      login,
      ['OAUTHBEARER'],
      [`334 ${encode('{"status":"invalid_token"}')}`, '535 no'],
    );
    expect(decode(lines[0]?.slice(17) ?? '')).toBe(
      'n,a=a=2Cb=3Dc@x.org,\x01host=smtp.x.org\x01port=587\x01auth=Bearer ya29.secret\x01\x01',
    );
    expect([lines.slice(1), error.code]).toEqual([['AQ=='], 'AUTH_REFUSED']);
  });

  it('a server that goes on asking is not answered for ever', async () => {
    const { lines, error } = await exchange(bearer, ['XOAUTH2'], Array(50).fill('334 '));
    expect([lines.length, error.code, error.retryable]).toEqual([2, 'AUTH_REFUSED', false]);
  });

  it('4yz is for later', async () => {
    const { error } = await exchange(bearer, ['XOAUTH2'], ['454 4.7.0 try later']);
    expect(error).toMatchObject({ code: 'AUTH_DEFERRED', retryable: true });
  });
});

it('what a server might repeat is taken out of its replies', () => {
  for (const login of [password, bearer]) {
    const secret = login.kind === 'password' ? 'hunter2' : 'ya29.secret';
    const forms = [
      secret,
      encode(secret),
      encode(`\0me@x.org\0${secret}`),
      encode(`user=me@x.org\x01auth=Bearer ${secret}\x01\x01`),
    ];
    const kept = login.kind === 'password' ? forms.slice(0, 3) : [forms[0], forms[1], forms[3]];
    expect(loginScrubber(login, server)(kept.join(' '))).toBe('*** *** ***');
  }
});

it.each(['Tr0ub4do!r&3xK9@mQ and more of it', 'pass word with !$ specials'])(
  'a part of the password %s that a server repeats is taken out, from its beginning on',
  (secret) => {
    const login: Login = { kind: 'password', username: 'me', password: new SecretText(secret) };
    const scrub = loginScrubber(login, server);
    const base64 = Buffer.from(`\0me\0${secret}`).toString('base64');
    for (const form of [secret, base64]) {
      expect(scrub(`535 bad: ${form.slice(0, 16)}... try again`)).toBe('535 bad: ***... try again');
      expect(scrub(`535 bad: ${form}`)).toBe('535 bad: ***');
    }
    const text =
      '535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.';
    expect(scrub(text)).toBe(text);
  },
);

it.each<[string, Login, number]>([
  ['PLAIN', password, 1],
  ['LOGIN', password, 3],
  ['CRAM-MD5', password, 2],
  ['XOAUTH2', bearer, 2],
  ['OAUTHBEARER', bearer, 2],
])(
  '%s: a server that goes on asking is not answered for ever, and that is a refusal',
  async (name, login, most) => {
    const { lines, error } = await exchange(login, [name], Array(50).fill('334 '));
    expect(lines.length).toBe(most);
    // 500: what is no reply to AUTH says nothing of its own.
    expect(error).toMatchObject({ code: 'AUTH_REFUSED', retryable: false, details: { replyCode: 500 } });
  },
);

it.each<[string, Login]>([
  ['a user name', { ...password, username: 'me\u0001@x.org' }],
  ['a password', { ...password, password: new SecretText('hun\0ter2') } as Login],
])('%s with what separates in a mechanism is not sent', async (_, login) => {
  const { lines, error } = await exchange(login, ['PLAIN'], ['235 ok']);
  expect([lines, error?.code]).toEqual([[], 'CONNECTION_INVALID']);
});
