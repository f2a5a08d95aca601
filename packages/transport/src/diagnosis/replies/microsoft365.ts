import { day, hour, minute, type ReplyRule } from '../reply-rule.ts';

const authPage = 'https://aka.ms/smtp_auth_disabled';

/**
 * Exchange Online's replies at submission.
 *
 * @see https://learn.microsoft.com/exchange/mail-flow-best-practices/non-delivery-reports-in-exchange-online/non-delivery-reports-in-exchange-online
 * @see https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/authenticated-client-smtp-submission
 */
export const microsoft365Replies: readonly ReplyRule[] = [
  {
    id: 'm365.smtp-auth-disabled-tenant',
    code: 535,
    enhanced: '5.7.139',
    text: /SmtpClientAuthentication is disabled for the Tenant/i,
    hint: `SMTP AUTH is switched off for the whole tenant. Have an administrator enable it for this mailbox: Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false (${authPage}).`,
  },
  {
    id: 'm365.smtp-auth-disabled-mailbox',
    code: 535,
    enhanced: '5.7.139',
    text: /SmtpClientAuthentication is disabled for the Mailbox/i,
    hint: 'SMTP AUTH is switched off for this mailbox. Have an administrator enable it (Microsoft 365 admin center, the user, Mail, Manage email apps, Authenticated SMTP; or Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false).',
  },
  {
    id: 'm365.basic-auth-disabled',
    code: [535, 550],
    enhanced: /^5\.7\.(?:139|30)$/,
    text: /basic authentication is (?:disabled|not supported)/i,
    hint: 'Microsoft 365 no longer takes this password over SMTP. Use OAuth2: client credentials with the permission SMTP.SendAsApp, or Microsoft Graph.',
  },
  {
    id: 'm365.security-defaults',
    code: 535,
    enhanced: '5.7.139',
    text: /security defaults/i,
    hint: "The tenant's security defaults forbid passwords over SMTP. Use OAuth2, or have an administrator replace security defaults by Conditional Access.",
  },
  {
    id: 'm365.credentials-incorrect',
    code: 535,
    enhanced: '5.7.139',
    text: /user credentials were incorrect/i,
    hint: 'User name or password are wrong. Correct them before the next attempt: repeated failures lock the account.',
  },
  {
    id: 'm365.account-locked',
    code: 535,
    enhanced: '5.7.139',
    text: /account locked/i,
    hint: 'The account is locked after too many failed logins. Stop sending, have an administrator unlock it, and correct the credentials first.',
  },
  {
    id: 'm365.federation',
    code: 535,
    enhanced: '5.7.139',
    text: /STS/,
    hint: "The organisation's own sign-in server (federation) cannot be reached or does not speak TLS 1.2. Its administrators have to mend it.",
  },
  {
    id: 'm365.criteria',
    code: 535,
    enhanced: '5.7.139',
    hint: 'A policy of the organisation (Conditional Access, multi-factor authentication) refused the login, or the password is wrong. Use OAuth2 client credentials, or have an administrator look into the sign-in log.',
  },
  {
    id: 'm365.authentication-unsuccessful',
    code: 535,
    enhanced: '5.7.3',
    hint: 'With a password: user name and password are wrong. With a token, check in this order: the user is the mailbox the token is for (leave a custom From address empty to try); the scope is https://outlook.office365.com/.default; the application has SMTP.SendAsApp with admin consent; its service principal exists in Exchange with the Object ID of the enterprise application and has rights on the mailbox; SMTP AUTH is enabled for it. New settings take up to an hour.',
  },
  {
    id: 'm365.not-authenticated',
    code: [530, 550],
    enhanced: '5.7.57',
    errorCode: 'AUTH_REQUIRED',
    hint: 'The server wants a login before it takes mail. Give the connection credentials, and use port 587 with STARTTLS.',
  },
  {
    id: 'm365.send-as-throttled',
    code: [550, 554],
    enhanced: '5.2.252',
    text: /throttled/i,
    errorCode: 'SENDER_REFUSED',
    hint: 'The mailbox is throttled because it kept sending with a From address it may not use. Leave the custom From address empty, or have an administrator grant Send As, and wait some hours.',
    retryAfterMs: 4 * hour,
  },
  {
    id: 'm365.send-as-denied',
    code: [550, 554],
    enhanced: /^5\.7\.60$|^5\.2\.252$/,
    errorCode: 'SENDER_REFUSED',
    hint: 'The From address is not the one of the login. Leave the custom From address empty, or have an administrator grant Send As on that mailbox to the login.',
  },
  {
    id: 'm365.send-as-denied-older',
    code: 554,
    enhanced: '5.2.0',
    text: /SendAsDenied/i,
    errorCode: 'SENDER_REFUSED',
    hint: 'The From address is not the one of the login. Leave the custom From address empty, or have an administrator grant Send As on that mailbox to the login.',
  },
  {
    id: 'm365.quota',
    code: [550, 554],
    enhanced: /^5\.2\.[02]$/,
    text: /SubmissionQuotaExceeded|Submission quota exceeded/i,
    hint: 'The mailbox has used up its 10,000 recipients of 24 hours. Go on after that, or use a service for bulk mail.',
    retryAfterMs: day,
  },
  {
    id: 'm365.recipient-limit',
    code: 550,
    enhanced: '5.1.90',
    hint: 'The mailbox has used up its recipients of 24 hours. Go on after that, or use a service for bulk mail.',
    retryAfterMs: day,
  },
  {
    id: 'm365.tenant-limit',
    code: 550,
    enhanced: /^5\.7\.23[23]$/,
    hint: 'The tenant has used up its recipients outside of it (the external recipient rate limit, which is lower for a trial). Go on after 24 hours, or use a service for bulk mail.',
    retryAfterMs: day,
  },
  {
    id: 'm365.continuous-errors',
    code: 550,
    enhanced: /^5\.2\.25[1345]$/,
    hint: 'The mailbox is throttled because the same error was repeated too often. Stop, mend the cause the reply names, and wait some hours.',
    retryAfterMs: 4 * hour,
  },
  {
    id: 'm365.mailbox-full',
    code: 554,
    enhanced: '5.2.2',
    text: /STOREDRV|QuotaExceeded/i,
    hint: 'The sending mailbox is full, because what is sent is kept in Sent Items. Have it emptied, or its retention changed.',
  },
  {
    id: 'm365.concurrent-connections',
    code: 432,
    enhanced: '4.3.2',
    hint: 'Too many sessions at once for this mailbox; Microsoft 365 allows three. Set limits.connections to 2 for each process that sends as it.',
    retryAfterMs: 10_000,
  },
  {
    id: 'm365.rate',
    code: 421,
    enhanced: '4.4.2',
    text: /submission rate/i,
    hint: 'Messages come in faster than the server allows. Set limits.messagesPerMinute (30 for Microsoft 365).',
    retryAfterMs: minute,
  },
  {
    id: 'm365.mailbox-logon',
    code: 430,
    enhanced: '4.2.0',
    hint: 'The application may log in, but not open this mailbox yet. Grant its service principal rights on the mailbox (Add-MailboxPermission, or Application SMTP.SendAsApp); this takes up to an hour.',
    retryAfterMs: 10 * minute,
  },
  {
    id: 'm365.bad-outbound-sender',
    code: 550,
    enhanced: '5.1.8',
    text: /bad outbound sender/i,
    hint: 'The account is blocked from sending because of spam or too much mail. An administrator unblocks it under Restricted entities in Microsoft Defender.',
  },
  {
    id: 'm365.banned-sender',
    code: 550,
    enhanced: /^5\.7\.(?:50[123]|708)$/,
    hint: 'Microsoft has blocked the account or tenant for its reputation. Only its support can lift that.',
  },
  {
    id: 'm365.ip-throttled',
    code: 451,
    enhanced: /^4\.7\.(?:5|6)\d\d$/,
    hint: "Microsoft limits mail from this machine's address for now. Send over smtp.office365.com on port 587 with a login, or have a connector set up.",
    retryAfterMs: hour,
  },
  {
    id: 'm365.from-missing',
    code: 550,
    enhanced: '5.7.512',
    hint: 'Exchange does not accept the From header. Give exactly one From address.',
  },
];
