import { MailError } from '@flowpost/core';

/** Where well-known issuers hand out tokens, and what for. */

/** The scope for SMTP with Exchange Online (app-only). */
export const exchangeOnlineScope = 'https://outlook.office365.com/.default';

/** The same in the national clouds, by their submission hosts. */
const nationalScopes: Readonly<Record<string, string>> = {
  'smtp.office365.us': 'https://outlook.office365.us/.default',
  'outlook-dod.office365.us': 'https://outlook-dod.office365.us/.default',
  'smtp.partner.outlook.cn': 'https://partner.outlook.cn/.default',
};

/** A host as tables have it. */
const plainHost = (host: string): string => host.replace(/\.$/, '').toLowerCase();

/** The scope for SMTP with Exchange Online at a host. */
export const exchangeScopeAt = (host: string): string =>
  nationalScopes[plainHost(host)] ?? exchangeOnlineScope;

/** Google's scope for SMTP; gmail.send is not enough for it. */
export const gmailScope = 'https://mail.google.com/';

/** The token endpoint of Google, as its documentation names it today. */
export const googleTokenEndpoint = 'https://oauth2.googleapis.com/token';

/**
 * Where Entra is for the national clouds, by the services whose tokens they issue.
 *
 * @see https://learn.microsoft.com/graph/deployments
 */
const nationalIssuers: Readonly<Record<string, string>> = {
  'graph.microsoft.us': 'login.microsoftonline.us',
  'dod-graph.microsoft.us': 'login.microsoftonline.us',
  'outlook.office365.us': 'login.microsoftonline.us',
  'outlook-dod.office365.us': 'login.microsoftonline.us',
  'microsoftgraph.chinacloudapi.cn': 'login.chinacloudapi.cn',
  'partner.outlook.cn': 'login.chinacloudapi.cn',
};

/**
 * The token endpoint of the issuer that a mail server goes with, for people who signed in there; undefined where nobody knows it.
 * Asking another one would tell it the secrets of this.
 */
export function tokenEndpointAt(mailHost: string): string | undefined {
  const host = plainHost(mailHost);
  if (/(?:^|\.)(?:gmail|googlemail)\.com$/.test(host)) return googleTokenEndpoint;
  const isExchange =
    /(?:^|\.)(?:(?:office365|outlook|hotmail|live)\.com|office365\.us|partner\.outlook\.cn)$/;
  return isExchange.test(host) ? entraTokenEndpoint('common', exchangeScopeAt(host)) : undefined;
}

/** Whether a host is where Entra issues tokens, in whatever cloud. */
export const isEntraHost = (host: string): boolean =>
  host === 'login.microsoftonline.com' || Object.values(nationalIssuers).includes(host);

/**
 * The token endpoint of an Entra tenant, by its id or domain.
 *
 * @param scope of what service the token is, which says in what cloud it is issued. Default the worldwide one.
 * @throws MailError `TOKEN_ENDPOINT_INVALID`.
 */
export function entraTokenEndpoint(tenant: string, scope = ''): string {
  if (!/^[A-Za-z0-9.-]{1,253}$/.test(tenant)) {
    throw new MailError('TOKEN_ENDPOINT_INVALID', 'The tenant must be an id or a domain.', {
      phase: 'token',
      hint: 'Give the tenant as its id (a GUID) or as one of its domains, such as example.onmicrosoft.com.',
    });
  }
  const service = URL.parse(scope)?.hostname ?? '';
  const host = nationalIssuers[service] ?? 'login.microsoftonline.com';
  return `https://${host}/${tenant}/oauth2/v2.0/token`;
}
