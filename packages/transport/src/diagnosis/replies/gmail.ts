import { day, minute, type ReplyRule } from '../reply-rule.ts';

/**
 * Gmail's and Google Workspace's replies.
 *
 * @see https://support.google.com/a/answer/3726730
 */
export const gmailReplies: readonly ReplyRule[] = [
  {
    id: 'gmail.app-password',
    code: 534,
    enhanced: '5.7.9',
    text: /application-specific password|InvalidSecondFactor/i,
    hint: 'Google takes no account password here. Make an app password at https://myaccount.google.com/apppasswords, or use OAuth2.',
  },
  {
    id: 'gmail.web-login',
    code: 534,
    enhanced: '5.7.14',
    hint: 'Google wants the owner of the account to log in with a browser first. Do that, then use an app password or OAuth2.',
  },
  {
    id: 'gmail.bad-credentials',
    code: 535,
    enhanced: '5.7.8',
    text: /gsmtp|google|BadCredentials/i,
    hint: 'Google does not accept user name and password, or the token. Account passwords no longer work: use an app password (https://myaccount.google.com/apppasswords) or OAuth2 with the scope https://mail.google.com/, for the user the token belongs to.',
  },
  {
    id: 'gmail.daily-limit',
    code: 550,
    enhanced: '5.4.5',
    text: /gsmtp|google|daily user sending/i,
    hint: 'The account has reached its daily limit of messages. Go on after 24 hours, or use the SMTP relay of Google Workspace.',
    retryAfterMs: day,
  },
  {
    id: 'gmail.too-many-logins',
    code: 454,
    enhanced: '4.7.0',
    text: /too many login attempts/i,
    hint: 'Too many logins in a short time. Keep sessions open instead of logging in for each message, and wait some minutes; more attempts prolong it.',
    retryAfterMs: 10 * minute,
  },
  {
    id: 'gmail.rate',
    code: 421,
    enhanced: '4.7.0',
    text: /gsmtp|google/i,
    hint: 'Google limits mail from this account or address for now. Wait some minutes and send more slowly.',
    retryAfterMs: 5 * minute,
  },
];
