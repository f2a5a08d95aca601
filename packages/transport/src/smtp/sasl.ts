import { createHmac } from 'node:crypto';
import { type Login, MailError } from '@flowpost/core';
import type { Endpoint } from '../diagnosis/connection-failure.ts';
import { refusal, type SmtpReply } from '../diagnosis/reply-failure.ts';
import { formsOf, secretScrubber } from '../scrub.ts';

/** Sends one line of the exchange and gives the server's reply. */
export type Exchange = (line: string) => Promise<SmtpReply>;

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

interface Mechanism {
  readonly name: string;
  /** What goes with the AUTH command, in base64; absent when the server speaks first. */
  initial?(login: Login, server: Endpoint): string;
  /** The answer to the server's challenges, the first one having the number 0; undefined when there is none. */
  answer?(login: Login, challenge: string, number: number): string | undefined;
}

function clearSecret(login: Login): string {
  return login.kind === 'password' ? login.password.reveal() : login.token.reveal();
}

/** RFC 4616. The authorization identity stays empty: some servers refuse any. */
const plain: Mechanism = {
  name: 'PLAIN',
  initial: (login) => base64(`\0${login.username}\0${clearSecret(login)}`),
};

/** Never standardised, offered everywhere; Microsoft 365 offers no other for passwords. */
const login: Mechanism = {
  name: 'LOGIN',
  answer: (login, _, number) => [base64(login.username), base64(clearSecret(login))][number],
};

/** RFC 2195: keeps the password off the wire, and needs the server to keep it in clear. Better than no login. */
const cramMd5: Mechanism = {
  name: 'CRAM-MD5',
  answer: (login, challenge, number) => {
    if (number > 0) return undefined;
    const digest = createHmac('md5', clearSecret(login))
      .update(Buffer.from(challenge, 'base64'))
      .digest('hex');
    return base64(`${login.username} ${digest}`);
  },
};

/** RFC 7628. A refusal comes as a challenge with the reason, to be answered with a lone ^A. */
const oauthBearer: Mechanism = {
  name: 'OAUTHBEARER',
  initial: (login, { host, port }) => {
    const user = login.username.replaceAll('=', '=3D').replaceAll(',', '=2C');
    return base64(
      `n,a=${user},\x01host=${host}\x01port=${port}\x01auth=Bearer ${clearSecret(login)}\x01\x01`,
    );
  },
  answer: (_login, _challenge, number) => (number === 0 ? 'AQ==' : undefined),
};

/**
 * Google's and Microsoft's forerunner of it. Google refuses with a challenge, to be answered with an empty line;
 * Microsoft refuses at once.
 *
 * @see https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
 */
const xoauth2: Mechanism = {
  name: 'XOAUTH2',
  initial: (login) => base64(`user=${login.username}\x01auth=Bearer ${clearSecret(login)}\x01\x01`),
  answer: (_login, _challenge, number) => (number === 0 ? '' : undefined),
};

/** SASL mechanisms by kind of login, the preferred one first. */
const mechanisms: Readonly<Record<Login['kind'], readonly Mechanism[]>> = {
  password: [plain, login, cramMd5],
  bearer: [oauthBearer, xoauth2],
};

/** Makes what takes a login's secret out of a text, in every form it has on the wire and some more, should a server echo it. */
export function loginScrubber(login: Login | undefined, server: Endpoint): (text: string) => string {
  if (!login) return (text) => text;
  const initial = mechanisms[login.kind].flatMap((mechanism) => mechanism.initial?.(login, server) ?? []);
  return secretScrubber([...initial, ...formsOf(clearSecret(login))]);
}

/**
 * Logs in (RFC 4954) with the first of our mechanisms that the server knows.
 *
 * @throws MailError `AUTH_NOT_OFFERED`, `AUTH_MECHANISM_UNAVAILABLE`, `AUTH_REFUSED` (5yz) or `AUTH_DEFERRED` (4yz).
 */
export async function authenticate(
  login: Login,
  offered: readonly string[] | undefined,
  server: Endpoint,
  exchange: Exchange,
  scrub = loginScrubber(login, server),
): Promise<void> {
  if (offered === undefined) {
    throw new MailError('AUTH_NOT_OFFERED', 'The server offers no login.', { phase: 'auth' });
  }
  const usable = mechanisms[login.kind];
  const mechanism = usable.find(({ name }) => offered.includes(name));
  if (!mechanism) {
    throw new MailError(
      'AUTH_MECHANISM_UNAVAILABLE',
      'The server and this credential share no login mechanism.',
      {
        phase: 'auth',
        details: { offered: offered.map(scrub), usable: usable.map(({ name }) => name) },
      },
    );
  }
  // NUL separates in PLAIN, ^A in the others; no user name has any of these.
  if (/[\x00-\x1f\x7f]/.test(login.username) || clearSecret(login).includes('\0')) {
    throw new MailError('CONNECTION_INVALID', 'User name or password contain a control character.', {
      phase: 'auth',
    });
  }
  const initial = mechanism.initial?.(login, server);
  let line: string | undefined = `AUTH ${mechanism.name}${initial === undefined ? '' : ` ${initial}`}`;
  let reply: SmtpReply | undefined;
  for (let number = 0; line !== undefined; number++) {
    const answer = await exchange(line);
    reply = { ...answer, text: scrub(answer.text) };
    line = reply.code === 334 ? mechanism.answer?.(login, answer.text.slice(4).trim(), number) : undefined;
  }
  if (reply?.code === 235) return;
  // Another 334 at the end, or no reply at all, is not SMTP; it is treated as a refusal.
  const { code = 500, text = '500 the server broke off the exchange' } = reply ?? {};
  const negative = code >= 400 ? { ...reply, code, text } : { code: 500, text };
  throw refusal('auth', 'auth', negative, { mechanism: mechanism.name });
}
