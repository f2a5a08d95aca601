import {
  type AddressInput,
  type ErrorCode,
  type MailError,
  parseAddresses,
  type SchemaIssue,
  sameMailbox,
} from '@flowpost/core';
import type { PlatformError } from '../../node.ts';

interface Diagnosis {
  readonly cause: string;
  readonly solution: string;
}

/** What the node's troubleshooting knows, by the name of the issue. */
const issues = {
  'General error': {
    cause: 'A mistyped setting, or a secret that has expired or is missing.',
    solution:
      'Compare scope, token endpoint and client secret with the application, and use the mailbox the OAuth2 connection is for.',
  },
  'Invalid login': {
    cause:
      'The login and the mailbox do not go together: a custom From address, other OAuth2 credentials, a wrong scope or token endpoint, or SMTP AUTH is off.',
    solution:
      'Leave the custom From address empty or grant Send As, use the credentials of the sending mailbox, switch SMTP AUTH on, and check scope (https://outlook.office365.com/.default) and token endpoint.',
  },
  '401 Unauthorized': {
    cause:
      'The application has no SMTP.SendAsApp permission or no consent for it, no service principal in Exchange, or no right to the mailbox.',
    solution:
      'Add SMTP.SendAsApp, have an administrator consent, register the service principal in Exchange, and grant it the mailbox.',
  },
  '535 Authentication failed': {
    cause:
      'The server refused the login; with Microsoft 365 mostly because SMTP AUTH is off for the mailbox.',
    solution:
      'Switch on authenticated SMTP for the mailbox in the Microsoft 365 admin center, or use the password the provider demands.',
  },
  'Token acquisition failed': {
    cause:
      'Client ID, tenant or client secret is wrong, the application is not multi-tenant, or its service principal is missing in the tenant.',
    solution:
      'Check all three against the application, make it multi-tenant where it serves another tenant, and consent to it there.',
  },
} as const satisfies Record<string, Diagnosis>;

/** Whether the From address is another one than that of the login, which most servers do not take. */
function hasForeignFrom(settings: unknown): boolean {
  const { customFrom, authentication } = (settings ?? {}) as {
    customFrom?: AddressInput;
    authentication?: { user?: unknown; username?: unknown } | null;
  };
  const user = authentication?.user ?? authentication?.username;
  try {
    const [from] = parseAddresses(customFrom ?? []);
    return from !== undefined && typeof user === 'string' && !sameMailbox(from.address, user);
  } catch {
    return false;
  }
}

const tokenCodes: readonly ErrorCode[] = [
  'TOKEN_CLIENT_REFUSED',
  'TOKEN_GRANT_REFUSED',
  'TOKEN_ACCESS_DENIED',
];
const setupCodes: readonly ErrorCode[] = [
  ...([
    'CONNECTION_INVALID',
    'SERVICE_UNKNOWN',
    'HOST_NOT_FOUND',
    'CREDENTIAL_INCOMPLETE',
    'TOKEN_EXPIRED',
  ] as const),
  ...([
    'TOKEN_SCOPE_INVALID',
    'TOKEN_ENDPOINT_INVALID',
    'TOKEN_REQUEST_INVALID',
    'TOKEN_RESPONSE_INVALID',
  ] as const),
  ...(['TOKEN_ENDPOINT_UNREACHABLE', 'TOKEN_RESPONSE_NOT_JSON'] as const),
  ...(['CONNECTION_REFUSED', 'TLS_WRONG_MODE', 'TLS_NOT_OFFERED'] as const),
];
/** Entra's numbers for a client or tenant that is not there, or not for each other; the OAuth error beside them can be any. */
const unknownIds: readonly unknown[] = [700016, 7000229, 90002, 900023, 50059, 50194];
/** Settings a typing mistake in which is one of the connection. */
const isSetup = (issue: SchemaIssue): boolean =>
  /^(?:authentication|smtpSettings|emailService)\b/.test(issue.path);

function issueOf({ code, details }: MailError, settings: unknown): keyof typeof issues | undefined {
  const { entraCodes, diagnosis, status } = details;
  if (Array.isArray(entraCodes) && entraCodes.some((one) => unknownIds.includes(one)))
    return 'Token acquisition failed';
  if (code === 'SENDER_REFUSED' || code === 'AUTH_REQUIRED') return 'Invalid login';
  if (diagnosis === 'm365.mailbox-logon') return '401 Unauthorized';
  if (status === 401 && (code === 'TOKEN_RESPONSE_NOT_JSON' || code === 'TOKEN_RESPONSE_INVALID'))
    return '401 Unauthorized';
  if (code === 'TOKEN_CONSENT_MISSING' || code === 'TOKEN_CLIENT_UNAUTHORIZED') return '401 Unauthorized';
  if (code === 'AUTH_REFUSED' && hasForeignFrom(settings)) return 'Invalid login';
  if (code === 'AUTH_REFUSED')
    return details.replyCode === 535 ? '535 Authentication failed' : 'Invalid login';
  if (code === 'AUTH_MECHANISM_UNAVAILABLE' || code === 'AUTH_NOT_OFFERED') return 'Invalid login';
  if (tokenCodes.includes(code)) return 'Token acquisition failed';
  const hasSetupIssue = ((details.issues ?? []) as readonly SchemaIssue[]).some(isSetup);
  return hasSetupIssue || setupCodes.includes(code) ? 'General error' : undefined;
}

/** The row of the troubleshooting table an error belongs to. */
export function diagnose(error: MailError, settings: unknown): { readonly platform?: PlatformError } {
  const name = issueOf(error, settings);
  return name === undefined ? {} : { platform: { name, message: error.message, ...issues[name] } };
}
