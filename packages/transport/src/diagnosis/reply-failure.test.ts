import { describe, expect, it } from 'vitest';
import { genericReplies } from './replies/generic.ts';
import { gmailReplies } from './replies/gmail.ts';
import { microsoft365Replies } from './replies/microsoft365.ts';
import { diagnoseReply, isOneTooMany, parseReply, type Refused, refusal } from './reply-failure.ts';

const read = (text: string) => parseReply(text) ?? { code: 0, text };
const auth139 = '535 5.7.139 Authentication unsuccessful, ';

it.each(['452 too many', '552 too many recipients', '452 4.5.3 x', '552 5.5.3 x'])(
  '%s is about one recipient too many',
  (reply) => expect(isOneTooMany({ code: Number(reply.slice(0, 3)), reply })).toBe(true),
);

describe('known replies', () => {
  it.each<[string, string]>([
    [
      '535 5.7.3 Authentication unsuccessful [AM0PR01CA0123.eurprd01.prod.exchangelabs.com]',
      'm365.authentication-unsuccessful',
    ],
    [
      `${auth139}SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled`,
      'm365.smtp-auth-disabled-tenant',
    ],
    [`${auth139}SmtpClientAuthentication is disabled for the Mailbox.`, 'm365.smtp-auth-disabled-mailbox'],
    [`${auth139}basic authentication is disabled.`, 'm365.basic-auth-disabled'],
    ['550 5.7.30 Basic authentication is not supported for Client Submission.', 'm365.basic-auth-disabled'],
    [`${auth139}user is locked by your organization's security defaults policy.`, 'm365.security-defaults'],
    [`${auth139}the request did not meet the criteria to be authenticated successfully.`, 'm365.criteria'],
    [`${auth139}the user credentials were incorrect.`, 'm365.credentials-incorrect'],
    [`${auth139}account locked. Contact your administrator.`, 'm365.account-locked'],
    [`${auth139}federated STS service was unreachable`, 'm365.federation'],
    ['530 5.7.57 Client not authenticated to send mail.', 'm365.not-authenticated'],
    [
      `530 5.7.57 Client not authenticated to send mail. [Error: ${auth139}basic authentication is disabled.]`,
      'm365.basic-auth-disabled',
    ],
    ['550 5.7.60 SMTP; Client does not have permissions to send as this sender', 'm365.send-as-denied'],
    ['554 5.2.252 SendAsDenied; a@x not allowed to send as b@x', 'm365.send-as-denied'],
    [
      '554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied',
      'm365.send-as-denied-older',
    ],
    ['554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException', 'm365.quota'],
    ['550 5.2.254 Sender throttled due to continuous too many recipients errors', 'm365.continuous-errors'],
    ['554 5.2.2 mailbox full; STOREDRV.QuotaExceededException', 'm365.mailbox-full'],
    [
      '432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending',
      'm365.concurrent-connections',
    ],
    ['421 4.4.2 Message submission rate for this client has exceeded the configured limit', 'm365.rate'],
    ['430 4.2.0 STOREDRV; mailbox logon failure', 'm365.mailbox-logon'],
    ['550 5.1.8 Access denied, bad outbound sender', 'm365.bad-outbound-sender'],
    [
      '554 5.2.2 Submission quota exceeded; STOREDRV.Submission.Exception:SubmissionQuotaExceededException',
      'm365.quota',
    ],
    ['550 5.1.90 Your message cannot be sent: daily limit for message recipients', 'm365.recipient-limit'],
    ['550 5.7.233 Your tenant exceeded the external recipient rate limit', 'm365.tenant-limit'],
    ['550 5.2.252 Sender throttled due to continuous send as denied errors', 'm365.send-as-throttled'],
    ['550 5.7.502 Access denied, banned sender', 'm365.banned-sender'],
    ['451 4.7.500 Server busy. Please try again later', 'm365.ip-throttled'],
    ['534 5.7.9 Application-specific password required.', 'gmail.app-password'],
    ['534 5.7.14 Please log in with your web browser', 'gmail.web-login'],
    ['535 5.7.8 Username and Password not accepted. gsmtp', 'gmail.bad-credentials'],
    ['550 5.4.5 Daily user sending limit exceeded.', 'gmail.daily-limit'],
    ['454 4.7.0 Too many login attempts, please try again later.', 'gmail.too-many-logins'],
    ['421 4.7.0 Try again later, closing connection. gsmtp', 'gmail.rate'],
    ['454 4.7.0 Temporary authentication failure', 'auth.temporary'],
    ['535 Authentication failed', 'auth.refused'],
    ['530 Must issue a STARTTLS command first', 'auth.starttls-first'],
    ['530 5.7.0 Authentication required', 'auth.required'],
    ['538 5.7.11 Encryption required', 'auth.encryption-required'],
    ['550 5.1.1 User unknown', 'address.unknown'],
    ['452 4.2.2 Over quota', 'mailbox.full'],
    ['552 5.3.4 Message too big', 'system.too-big'],
    ['452 4.5.3 Too many recipients', 'protocol.too-many-recipients'],
    ['550 5.7.26 Unauthenticated mail', 'policy.authentication'],
  ])('%s', (text, id) => {
    expect(diagnoseReply(read(text), 'auth')?.id).toBe(id);
  });

  it.each<[string, Refused]>([
    ['454 4.7.0 TLS not available due to local problem', 'sender'],
    ['454 4.7.0 Greylisted', 'recipients'],
    ['554 5.2.2 Mailbox full', 'recipients'],
    ['550 5.4.5 Routing loop detected', 'recipients'],
    ['421 4.7.0 try again later, closing connection', 'sender'],
  ])('%s about %s says nothing of logins, Google or Microsoft', (text, refused) => {
    const { hint, details } = refusal(refused, 'envelope', read(text));
    expect(hint).not.toMatch(/login|Google|sending mailbox/);
    expect(details.retryAfterMs).toBeUndefined();
  });

  it('what is said within a refusal of the sender is about the login', () => {
    const text =
      '530 5.7.57 Client not authenticated to send mail. [Error: 454 4.7.0 Temporary authentication failure]';
    const { hint, details } = refusal('sender', 'envelope', read(text));
    expect([details.diagnosis, details.retryAfterMs]).toEqual(['auth.temporary', 60_000]);
    expect(hint).toMatch(/do not change it/);
  });

  it.each<[string, Refused, string, RegExp]>([
    [
      '553 5.7.1 <bob@x.org>: Sender address rejected: not owned by user ann@x.org',
      'recipients',
      'SENDER_REFUSED',
      /From address/,
    ],
    [
      '554 5.7.1 <h[1.2.3.4]>: Client host rejected: Access denied',
      'recipients',
      'RECIPIENTS_REFUSED',
      /credentials/,
    ],
    [
      '554 5.7.1 <h[1.2.3.4]>: Client host rejected: Access denied',
      'greeting',
      'GREETING_REFUSED',
      /block list/,
    ],
    ['500 5.5.1 Unknown command', 'greeting', 'GREETING_REFUSED', /LMTP/],
  ])('%s about %s is %s', (text, refused, code, hint) => {
    expect(refusal(refused, 'envelope', read(text))).toMatchObject({
      code,
      hint: expect.stringMatching(hint),
    });
  });

  it('what nobody knows stays general', () => {
    expect(diagnoseReply(read('550 no'), 'message')).toBeUndefined();
    expect(refusal('message', 'confirm', read('550 no'))).toMatchObject({
      code: 'MESSAGE_REFUSED',
      retryable: false,
    });
  });

  it('the text chooses the hint, the code alone whether it is for later', () => {
    const words = 'Too many login attempts, please try again later';
    expect(refusal('auth', 'auth', read(`454 4.7.0 ${words}`))).toMatchObject({
      code: 'AUTH_DEFERRED',
      retryable: true,
    });
    expect(refusal('auth', 'auth', read(`535 5.7.8 ${words}`))).toMatchObject({
      code: 'AUTH_REFUSED',
      retryable: false,
    });
  });

  it.each<[string, Refused, string]>([
    [`550 5.7.57 Client not authenticated. [Error: ${auth139}account locked.]`, 'sender', 'AUTH_REFUSED'],
    ['530 5.7.57 Client not authenticated to send mail.', 'sender', 'AUTH_REQUIRED'],
    ['554 5.2.252 SendAsDenied; a@x not allowed to send as b@x', 'message', 'SENDER_REFUSED'],
    ['552 5.3.4 Message too big', 'message', 'MESSAGE_TOO_LARGE'],
  ])('%s about %s is %s', (text, refused, code) => {
    expect(refusal(refused, 'envelope', read(text)).code).toBe(code);
  });

  it('says how long to wait where the provider does', () => {
    expect(refusal('auth', 'auth', read('454 4.7.0 Too many login attempts')).details.retryAfterMs).toBe(
      600_000,
    );
  });
});

it('every rule has a name of its own and a hint that ends in a full stop', () => {
  const all = [...microsoft365Replies, ...gmailReplies, ...genericReplies];
  expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
  for (const { id, hint } of all) expect(hint, id).toMatch(/\.$/);
});
