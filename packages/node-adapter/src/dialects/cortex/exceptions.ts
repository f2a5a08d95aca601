import type { ErrorCode, MailError, SchemaIssue } from '@flowpost/core';
import type { NodeError, PlatformError } from '../../node.ts';
import type { PropertyProblem } from './properties.ts';

const docs = 'https://docs.wearecortex.com/docs/2023.5/reference/exceptions';
const property = (name: string): string => `${docs}/common/property/${name}`;
const dotnet = (name: string): string => `https://learn.microsoft.com/dotnet/api/${name}`;
const session = (number: number): string => `${docs}/email/email-session-exception#${number}`;

/** Where each exception is described. */
const helpLinks = {
  PropertyNullException: property('property-null-exception'),
  PropertyEmptyException: property('property-empty-exception'),
  PropertyValueOutOfRangeException: property('property-value-out-of-range-exception'),
  ArgumentException: dotnet('system.argumentexception'),
  CryptographicException: dotnet('system.security.cryptography.cryptographicexception'),
  FileNotFoundException: dotnet('system.io.filenotfoundexception'),
  IOException: dotnet('system.io.ioexception'),
  UnauthorizedAccessException: dotnet('system.unauthorizedaccessexception'),
  MsalServiceException: dotnet('microsoft.identity.client.msalserviceexception'),
  ServiceException: dotnet('microsoft.graph.serviceexception'),
  SmtpCommandException: 'https://mimekit.net/docs/html/T_MailKit_Net_Smtp_SmtpCommandException.htm',
} as const;
type ExceptionName = keyof typeof helpLinks;

/** What an exception of the other side of the flow is called, by block. */
export type Block = 'smtp' | 'microsoft365';

const byProblem: Readonly<Record<Exclude<PropertyProblem, 'address' | 'host'>, ExceptionName>> = {
  null: 'PropertyNullException',
  empty: 'PropertyEmptyException',
  'out-of-range': 'PropertyValueOutOfRangeException',
  enum: 'ArgumentException',
  encryption: 'ArgumentException',
};

const forBoth: Partial<Record<ErrorCode, ExceptionName>> = {
  ATTACHMENT_NOT_FOUND: 'FileNotFoundException',
  ATTACHMENT_ACCESS_DENIED: 'UnauthorizedAccessException',
  ATTACHMENT_OUTSIDE_ALLOWED_FOLDERS: 'UnauthorizedAccessException',
  ATTACHMENT_NOT_A_FILE: 'UnauthorizedAccessException',
  ATTACHMENT_UNREADABLE: 'IOException',
  ATTACHMENT_CHANGED: 'IOException',
  ENCRYPTED_TEXT_INVALID: 'CryptographicException',
  SECRET_KEY_MISSING: 'CryptographicException',
  INPUT_INVALID: 'ArgumentException',
  CONNECTION_INVALID: 'ArgumentException',
  HEADER_INVALID: 'ArgumentException',
};

/** What Exchange or Graph says about the message, the mailbox or the right to it, over either way of delivery. */
const serviceCodes: readonly ErrorCode[] = [
  ...(['MAILBOX_NOT_FOUND', 'GRAPH_PERMISSION_MISSING', 'SENDER_REFUSED', 'RECIPIENTS_REFUSED'] as const),
  ...([
    'MESSAGE_REFUSED',
    'MESSAGE_TOO_LARGE',
    'MESSAGE_DEFERRED',
    'AUTH_REFUSED',
    'ADDRESS_INVALID',
  ] as const),
];

const smtpCodes: readonly ErrorCode[] = [
  ...(['ADDRESS_INVALID', 'SENDER_REFUSED', 'SENDER_DEFERRED', 'RECIPIENTS_REFUSED'] as const),
  ...([
    'RECIPIENTS_DEFERRED',
    'MESSAGE_REFUSED',
    'MESSAGE_DEFERRED',
    'MESSAGE_TOO_LARGE',
    'SMTPUTF8_NOT_OFFERED',
  ] as const),
];

/** Numbers of an `EmailSessionException`. */
const reasons = {
  100: ['Socket', 'InvalidPort'],
  101: ['Socket', 'InvalidHost'],
  200: ['SSL', 'SslRequired'],
  201: ['SSL', 'SslUnsupported'],
  300: ['UserCredentials', 'InvalidUserCredentials'],
  400: ['OAuthCredentials', 'InvalidCertificate'],
  401: ['OAuthCredentials', 'InvalidGmailClientCredentials'],
} as const;
type SessionNumber = keyof typeof reasons;

const sessionCodes: Partial<Record<ErrorCode, SessionNumber>> = {
  CONNECTION_REFUSED: 100,
  CONNECTION_TIMED_OUT: 100,
  CONNECTION_UNREACHABLE: 100,
  HOST_NOT_FOUND: 101,
  DNS_UNAVAILABLE: 101,
  AUTH_IN_CLEAR_REFUSED: 201,
  AUTH_REFUSED: 300,
  AUTH_REQUIRED: 300,
  AUTH_MECHANISM_UNAVAILABLE: 300,
  AUTH_NOT_OFFERED: 300,
  TOKEN_CLIENT_REFUSED: 401,
  TOKEN_GRANT_REFUSED: 401,
  TOKEN_CLIENT_UNAUTHORIZED: 401,
};

function sessionNumber({ code, category, phase, details }: MailError): SessionNumber | undefined {
  if (code === 'TLS_WRONG_MODE') return details.serverExpects === 'implicit' ? 200 : 201;
  // Expired, untrusted, for another host, intercepted: our code tells them apart, the number does not.
  if (category === 'tls') return 201;
  if (isCertificate(code)) return 400;
  // Only what would end a command is found out as late as this.
  if (code === 'CONNECTION_INVALID' && phase === 'auth') return 300;
  if (code === 'CONNECTION_LOST' && (phase === 'connect' || phase === 'greeting')) return 100;
  // What is no TLS server mostly ends the connection when somebody begins with TLS.
  if (code === 'CONNECTION_LOST' && phase === 'tls') return 201;
  return sessionCodes[code];
}

/** The sentence of the platform's kind: what was given in quotes, then what is wrong with it. */
function sessionMessage(number: SessionNumber, error: MailError): string {
  const { details, message } = error;
  const { host = '', port = '' } = details;
  const { code } = error;
  switch (number) {
    case 100:
      return `'Host' ('${host}') cannot be reached on 'Port' (${port}): nothing listens there, or it did not answer in time.`;
    case 101:
      return host === '' ? message : `'Host' ('${host}') is invalid: no such host can be found.`;
    case 200:
      return `No connection on 'Port' (${port}): 'Use SSL' must be true there.`;
    case 201:
      if (code === 'TLS_WRONG_MODE')
        return `No secure connection on 'Port' (${port}): 'Use SSL' must be false there.`;
      if (code === 'AUTH_IN_CLEAR_REFUSED') {
        return `The server on 'Port' (${port}) offers no TLS, so 'Username' and 'Password' were not sent.`;
      }
      if (code === 'CONNECTION_LOST') return `No secure connection on 'Port' (${port}). ${message}`;
      return `The secure connection on 'Port' (${port}) is not trusted. ${message}`;
    case 300:
      // Elsewhere no password was judged.
      return code === 'AUTH_REFUSED' ? "'Username' or 'Password' is incorrect." : message;
    case 400:
      return "'Certificate Path' or 'Certificate Password' is invalid.";
    case 401:
      return "'From Address' or 'Client Id' is invalid.";
  }
}

/** The `EmailSessionException` of a number. */
function sessionException(number: SessionNumber, error: MailError): PlatformError {
  const [category, numberName] = reasons[number];
  const message = sessionMessage(number, error);
  return { name: 'EmailSessionException', category, number, numberName, message, helpLink: session(number) };
}

/** Which property an issue is about, in the platform's casing. */
const properties: Readonly<Record<string, string>> = {
  subject: 'EmailMessage.Subject',
  text: 'EmailMessage.Body',
  html: 'EmailMessage.Body',
  graphBaseUrl: 'GraphBaseUrl',
  host: 'SmtpHost',
  tlsOptions: 'TlsOptions',
};

/** Parts of a credential, which only turn out to be empty when encrypted text has been opened. */
const credentialParts: Readonly<Record<string, string>> = {
  clientId: 'ClientId',
  clientSecret: 'ClientSecret',
  tenantId: 'TenantId',
  objectId: 'ObjectId',
  certificateFile: 'CertificatePath',
};

function exception(name: ExceptionName, message: string, path?: string): PlatformError {
  const where = path === undefined || path === '' ? undefined : (properties[path] ?? path);
  return { name, ...(where !== undefined && { property: where }), message, helpLink: helpLinks[name] };
}

const isOAuth = (code: ErrorCode): boolean => code.startsWith('TOKEN_');
const isCertificate = (code: ErrorCode): boolean => code.startsWith('CERTIFICATE_');
/** The socket is in use by another process, or none is left. */
const heldSockets: readonly unknown[] = ['EADDRINUSE', 'EADDRNOTAVAIL', 'EMFILE', 'ENFILE'];

function byIssue(issue: SchemaIssue, error: MailError, block: Block): PlatformError | undefined {
  const problem = issue.problem as PropertyProblem | undefined;
  if (problem === undefined) return undefined;
  if (problem === 'host') return { ...sessionException(101, error), property: issue.path };
  const service = block === 'smtp' ? 'SmtpCommandException' : 'ServiceException';
  const name = problem === 'address' ? service : byProblem[problem];
  const text = problem === 'address' ? error.message : `'${issue.path}': ${issue.message}.`;
  return exception(name, text, issue.path);
}

/** Which of the attachments an error is about. */
function attachmentPath({ category, details: { position } }: MailError): string | undefined {
  if (category !== 'attachment' || typeof position !== 'number') return undefined;
  return `EmailMessage.Attachments[${position - 1}]`;
}

function platformError(error: MailError, block: Block): PlatformError | undefined {
  const { code, message, details } = error;
  const issues = (details.issues ?? []) as readonly SchemaIssue[];
  const issue = issues.find(({ problem }) => problem !== undefined) ?? issues[0];
  const found = issue && byIssue(issue, error, block);
  if (found) return found;
  // A variable that is not there has no value.
  if (code === 'DYNAMIC_FIELD_MISSING')
    return exception('PropertyNullException', message, String(details.field));
  if (heldSockets.includes(details.reason)) return exception('IOException', message);
  const common = code === 'CONNECTION_INVALID' && error.phase === 'auth' ? undefined : forBoth[code];
  if (common) return exception(common, message, issue?.path ?? attachmentPath(error));
  if (block === 'microsoft365') {
    const missing = code === 'CREDENTIAL_INCOMPLETE' ? [details.missing ?? []].flat() : [];
    const empty = Object.entries(credentialParts).find(([part]) => missing.includes(part))?.[1];
    if (empty !== undefined) return exception('PropertyEmptyException', message, `Credentials.${empty}`);
    if (isCertificate(code)) return exception('CryptographicException', message);
    if (isOAuth(code)) return exception('MsalServiceException', message);
    if (serviceCodes.includes(code)) return exception('ServiceException', message);
  }
  if (smtpCodes.includes(code)) return exception('SmtpCommandException', message);
  const number = sessionNumber(error);
  // The block has no host and no switch for SSL that such a number could be about.
  if (block === 'microsoft365' && number !== undefined && number < 300) return undefined;
  return number === undefined ? undefined : sessionException(number, error);
}

/** An error under the name it has on the platform, where it has one there. */
export function describeCortexError(error: MailError, block: Block): NodeError {
  const platform = platformError(error, block);
  return { ...error.toJSON(), ...(platform && { platform }) };
}
