import { MailError } from '@flowpost/core';

/** Where well-known issuers hand out tokens, and what for. */

/** The scope for SMTP with Exchange Online (app-only). */
export const exchangeOnlineScope = 'https://outlook.office365.com/.default';

/** The same in the national clouds, by their submission hosts. */
const nationalScopes: Readonly<Record<string, string>> = {
  'smtp.office365.us': 'https://outlook.office365.us/.default',
  'smtp.partner.outlook.cn': 'https://partner.outlook.cn/.default',
};

/** The scope for SMTP with Exchange Online at a host. */
export const exchangeScopeAt = (host: string): string =>
  nationalScopes[host.toLowerCase()] ?? exchangeOnlineScope;

/** Google's scope for SMTP; gmail.send is not enough for it. */
export const gmailScope = 'https://mail.google.com/';

/** The token endpoint of Google, as its documentation names it today. */
export const googleTokenEndpoint = 'https://oauth2.googleapis.com/token';

/** The older address that workflow tools have as their default; Google still answers there. */
export const olderGoogleTokenEndpoint = 'https://accounts.google.com/o/oauth2/token';

/**
 * The token endpoint of an Entra tenant, by its id or domain.
 *
 * @throws MailError `TOKEN_ENDPOINT_INVALID`.
 */
export function entraTokenEndpoint(tenant: string): string {
  if (!/^[A-Za-z0-9.-]{1,253}$/.test(tenant)) {
    throw new MailError('TOKEN_ENDPOINT_INVALID', 'The tenant must be an id or a domain.', {
      phase: 'token',
      hint: 'Give the tenant as its id (a GUID) or as one of its domains, such as example.onmicrosoft.com.',
    });
  }
  return `https://login.microsoftonline.com/${tenant}/oauth2/v2.0/token`;
}
