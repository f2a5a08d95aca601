import { type Login, MailError } from '@flowpost/core';
import { parseReply, replyFailure, type SmtpReply } from '../diagnosis/reply-failure.ts';

/** Sends one line of the exchange and gives the server's reply. */
export type Exchange = (line: string) => Promise<{ readonly response: string }>;

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

interface Mechanism {
  readonly name: string;
  /** The lines of the exchange: the AUTH command, then an answer to each 334. */
  lines(login: Login): readonly string[];
}

/** SASL mechanisms by kind of login, the preferred one first. */
const mechanisms: Readonly<Record<Login['kind'], readonly Mechanism[]>> = {
  password: [
    {
      // RFC 4616. The authorization identity stays empty: some servers refuse any.
      name: 'PLAIN',
      lines: (login) => [`AUTH PLAIN ${base64(`\0${login.username}\0${clearSecret(login)}`)}`],
    },
    {
      name: 'LOGIN',
      lines: (login) => ['AUTH LOGIN', base64(login.username), base64(clearSecret(login))],
    },
  ],
  bearer: [],
};

function clearSecret(login: Login): string {
  return login.kind === 'password' ? login.password.reveal() : login.token.reveal();
}

/** Replaces what must not be repeated, should a server echo it: the secret, and its forms on the wire. */
export function scrubLogin(text: string, login: Login | undefined): string {
  if (!login) return text;
  const secret = clearSecret(login);
  const forms = mechanisms[login.kind]
    .flatMap(({ lines }) => lines(login))
    .map((line) => line.split(' ').at(-1) ?? '');
  return [secret, ...forms]
    .filter((form) => form.length >= 4 && form !== 'LOGIN' && form !== base64(login.username))
    .reduce((clean, form) => clean.replaceAll(form, '***'), text);
}

/**
 * Logs in (RFC 4954) with the strongest mechanism both sides know.
 *
 * @throws MailError `AUTH_NOT_OFFERED`, `AUTH_MECHANISM_UNAVAILABLE`, `AUTH_REFUSED` (5yz) or `AUTH_DEFERRED` (4yz).
 */
export async function authenticate(
  login: Login,
  offered: readonly string[] | undefined,
  exchange: Exchange,
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
        details: { offered, usable: usable.map(({ name }) => name) },
      },
    );
  }
  if (/\0/.test(login.username + clearSecret(login))) {
    throw new MailError('CONNECTION_INVALID', 'User name or password contain a NUL character.', {
      phase: 'auth',
    });
  }
  let reply: SmtpReply | undefined;
  for (const line of mechanism.lines(login)) {
    const { response } = await exchange(line);
    reply = parseReply(scrubLogin(response, login));
    if (reply?.code !== 334) break;
  }
  if (reply?.code === 235) return;
  // A 334 after the last line, or no reply at all, is not SMTP; it is treated as a refusal.
  const { code = 500, text = '500 the server broke off the exchange' } = reply ?? {};
  const negative = code >= 400 ? { ...reply, code, text } : { code: 500, text };
  throw replyFailure('auth', 'auth', negative, { mechanism: mechanism.name });
}
