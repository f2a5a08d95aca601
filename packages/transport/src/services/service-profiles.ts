/** What a service allows, as far as it says so itself. Counts are of one account. */
export interface ServiceProfile {
  /** Sessions at the same time. */
  readonly connections?: number;
  readonly messagesPerMinute?: number;
  readonly messagesPerDay?: number;
  readonly recipientsPerMessage?: number;
  readonly recipientsPerDay?: number;
  /** Size of a message as encoded, in bytes: what the server announces after EHLO. */
  readonly messageBytes?: number;
  /** How one may log in: with the account's password, with a password made for one application, with OAuth 2.0. */
  readonly auth?: readonly ('password' | 'app-password' | 'oauth2')[];
  /** Where an app password is made. */
  readonly appPasswordUrl?: string;
  /** The page these facts are from. */
  readonly source?: string;
}

const mebibytes = (count: number): number => count * 1024 * 1024;

/** By the names of the service list. A service that is not here has published nothing we know of. */
export const serviceProfiles: Readonly<Record<string, ServiceProfile>> = {
  Gmail: {
    messagesPerDay: 500,
    recipientsPerMessage: 100,
    messageBytes: 35_882_577,
    auth: ['app-password', 'oauth2'],
    appPasswordUrl: 'https://myaccount.google.com/apppasswords',
    source: 'https://support.google.com/a/answer/166852',
  },
  GmailWorkspace: {
    recipientsPerMessage: 100,
    messageBytes: 35_882_577,
    auth: ['app-password', 'oauth2'],
    source: 'https://support.google.com/a/answer/2956491',
  },
  Outlook365: {
    connections: 3,
    messagesPerMinute: 30,
    recipientsPerDay: 10_000,
    messageBytes: mebibytes(150),
    auth: ['password', 'oauth2'],
    source: 'https://learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements',
  },
  Hotmail: {
    auth: ['app-password', 'oauth2'],
    appPasswordUrl: 'https://account.live.com/proofs/AppPassword',
  },
  iCloud: {
    messagesPerDay: 1_000,
    recipientsPerMessage: 500,
    recipientsPerDay: 1_000,
    messageBytes: 28_311_552,
    auth: ['app-password'],
    appPasswordUrl: 'https://account.apple.com',
    source: 'https://support.apple.com/102198',
  },
  Yahoo: {
    auth: ['app-password', 'oauth2'],
    appPasswordUrl: 'https://login.yahoo.com/account/security',
  },
  FastMail: { auth: ['app-password'], appPasswordUrl: 'https://app.fastmail.com/settings/security' },
  Zoho: {
    auth: ['password', 'app-password', 'oauth2'],
    appPasswordUrl: 'https://accounts.zoho.com/home#security',
  },
};
