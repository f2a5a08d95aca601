import { MailError } from './errors/mail-error.ts';
import { withoutBrackets } from './url-endpoint.ts';

const booleanFields = new Set(['allowPlaintextAuth', 'dangerouslyAcceptAnyCertificate']);
const tlsFields = new Set([
  'caFile',
  'fingerprints',
  'serverName',
  'minVersion',
  'dangerouslyAcceptAnyCertificate',
]);
const fields = new Set(['tls', 'from', 'ehloName', 'allowPlaintextAuth', 'pipelining', ...tlsFields]);

/** Never repeats the URL, which may hold a password. */
function invalid(message: string): MailError {
  return new MailError('CONNECTION_INVALID', `The connection URL is malformed: ${message}.`);
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(`${what} holds a % that is not followed by two hexadecimal digits; write % as %25`);
  }
}

/** What people forget when a part of the URL makes no sense. */
const encodeHint = 'in a user name or password, write / ? # @ : and % as %2F %3F %23 %40 %3A and %25';

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65535) return port;
  // Not shown: with an unencoded character in it, a password can end up here.
  throw invalid(`the port must be a whole number from 1 to 65535; ${encodeHint}`);
}

function readCredential(userinfo: string): object {
  const colon = userinfo.indexOf(':');
  const username = decode(colon < 0 ? userinfo : userinfo.slice(0, colon), 'the user name');
  const password = colon < 0 ? '' : decode(userinfo.slice(colon + 1), 'the password');
  if (username === '') throw invalid('there is no user name before the @');
  if (password === '')
    throw invalid('there is a user name but no password; write smtps://user:password@host');
  return { kind: 'basic', username, password };
}

function readQuery(query: string): Record<string, unknown> {
  const connection: Record<string, unknown> = {};
  const tlsOptions: Record<string, unknown> = {};
  const seen = new Set<string>();
  // A plus is a plus, as in any URL (RFC 3986), but in a name or a path that a form or a program wrote: it escapes the bracket behind
  // a name, and slashes, which people do not.
  const written = /(?:^|&)(?:from=[^&]*%3C|caFile=[^&]*%2F[^&]*)|\+/gi;
  const plain = query.replace(written, (part) => (part === '+' ? '%2B' : part));
  for (const [key, text] of new URLSearchParams(plain)) {
    if (!fields.has(key)) {
      const shown =
        /^[A-Za-z]{1,20}$/.test(key) && !query.includes('@') ? JSON.stringify(key) : 'a part of the query';
      throw invalid(`${shown} is not a known setting; known are ${[...fields].join(', ')}; ${encodeHint}`);
    }
    if (seen.has(key)) throw invalid(`${key} is given twice`);
    seen.add(key);
    const value = booleanFields.has(key) ? text === 'true' || text === '1' || text === '' : text;
    if (key === 'fingerprints') tlsOptions[key] = text.split(',');
    else if (tlsFields.has(key)) tlsOptions[key] = value;
    else connection[key] = value;
  }
  return Object.keys(tlsOptions).length > 0 ? { ...connection, tlsOptions } : connection;
}

/**
 * Reads the URL form of an SMTP connection: `smtps://user:password@host:465`, `smtp://host:587?tls=none`. The
 * scheme `smtps` means implicit TLS, `smtp` leaves it to the port, `lmtp` speaks LMTP; the query holds further fields of the
 * connection and of its `tlsOptions`. Returns the object form, still unchecked but for host and port.
 *
 * @throws MailError `CONNECTION_INVALID`, whose message never contains the URL.
 */
export function readConnectionUrl(url: string): Record<string, unknown> {
  const parts =
    /^([a-z][a-z0-9+.-]*):\/\/(?:([^/?#]*)@)?(\[[^\]]*\]|[^:/?#@]*)(?::([^/?#]*))?\/?(?:\?([^#]*))?$/i.exec(
      url.trim(),
    );
  if (!parts) throw invalid('it must look like smtps://user:password@host:465');
  const [, scheme = '', userinfo, host = '', port, query = ''] = parts;
  if (!/^(?:smtps?|lmtp)$/i.test(scheme))
    throw invalid(`the scheme must be smtp, smtps or lmtp, not ${scheme}`);
  if (host === '') throw invalid('there is no host name');
  const isImplicit = scheme.toLowerCase() === 'smtps';
  const settings = readQuery(query);
  if (isImplicit && settings.tls !== undefined && settings.tls !== 'implicit') {
    throw invalid('smtps means implicit TLS, and tls in the query says otherwise; use smtp instead');
  }
  return {
    kind: 'smtp',
    ...(/^lmtp$/i.test(scheme) && { protocol: 'lmtp' }),
    host: withoutBrackets(decode(host, 'the host name')),
    ...(isImplicit && { tls: 'implicit' }),
    ...(port !== undefined && { port: readPort(port) }),
    ...(userinfo !== undefined && { auth: readCredential(userinfo) }),
    ...settings,
  };
}
