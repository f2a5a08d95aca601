import { readTokenClaims } from '@flowpost/auth-providers';
import { type Credential, type Login, type MailError, toMailError } from '@flowpost/core';

/** For PowerShell, as one value. It takes typographic quotes for quotes too. */
const quote = (value: string): string => `'${value.replace(/['\u2018-\u201b]/g, '$&$&')}'`;
const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Diagnoses after which the mailbox has to be opened for SMTP AUTH. */
const mailboxClosed = new Set(['m365.smtp-auth-disabled-tenant', 'm365.smtp-auth-disabled-mailbox']);
/** Diagnoses after which the application may have no rights in Exchange. */
const applicationUnknown = new Set(['m365.authentication-unsuccessful', 'm365.mailbox-logon']);

/** Whom Entra's tokens for Exchange are for: its addresses in all clouds, or its application id. */
export const exchangeAudience =
  /^https:\/\/(?:outlook|partner\.outlook|ps\.outlook)[\w.-]*\/?$|^00000002-0000-0ff1-ce00-000000000000$/;
/** Whom those for Graph are for. */
const graphAudience = /graph\.microsoft|microsoftgraph|^00000003-0000-0000-c000-000000000000$/;

/** Whether the rights of an application come from Exchange (RBAC for Applications), of which its tokens say nothing. */
export const hasExchangeRights = (auth: Credential | undefined): boolean =>
  auth !== undefined && 'exchangeRbac' in auth && auth.exchangeRbac === true;

/**
 * Why Exchange will not take a token over SMTP, as far as the token tells; undefined when it may, or is no token of Entra's.
 *
 * @param isRbac whether the application's rights come from Exchange, of which a token says nothing.
 * @see https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
 */
export function exchangeMisfit(login: Login, isRbac = false): string | undefined {
  const { aud, roles, scp } = (login.kind === 'bearer' && readTokenClaims(login.token)) || {};
  if (typeof aud !== 'string') return undefined;
  if (graphAudience.test(aud))
    return 'The token is for Microsoft Graph, and SMTP wants one for Exchange: set scope to https://outlook.office365.com/.default, or deliver over Graph.';
  if (!exchangeAudience.test(aud) || typeof scp === 'string' || isRbac) return undefined;
  const hasRole = Array.isArray(roles) && roles.some((role) => /^SMTP\.SendAsApp/i.test(String(role)));
  return hasRole || roles === undefined
    ? undefined
    : 'The token has no permission for SMTP: add the application permission SMTP.SendAsApp (Office 365 Exchange Online) and have an administrator grant consent.';
}

/**
 * What an administrator has to run in Exchange Online PowerShell, filled in for this mailbox and application, when the server's
 * answer to the login says what is missing. Application and object id are in the token: `oid` of an application's token is the
 * Object ID of its enterprise application, the one Exchange wants.
 *
 * @see https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
 * @see https://learn.microsoft.com/exchange/permissions-exo/application-rbac
 * @see https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
 */
function missingExchangeCommands(error: MailError, login: Login, isRbac: boolean): readonly string[] {
  const diagnosis = String(error.details.diagnosis);
  // Whoever runs them would not see what else they do.
  if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(login.username)) return [];
  const mailbox = quote(login.username);
  if (mailboxClosed.has(diagnosis)) {
    return [`Set-CASMailbox -Identity ${mailbox} -SmtpClientAuthenticationDisabled $false`];
  }
  // No right in Exchange makes another token of it.
  if (!applicationUnknown.has(diagnosis) || login.kind !== 'bearer' || exchangeMisfit(login, isRbac))
    return [];
  const { appid, azp, oid } = readTokenClaims(login.token) ?? {};
  const application = appid ?? azp;
  // What the token says is not proven, and ends in a command.
  if (!uuid.test(String(application)) || !uuid.test(String(oid))) return [];
  const newPrincipal = `New-ServicePrincipal -AppId ${quote(String(application))} -ObjectId ${quote(String(oid))}`;
  if (!isRbac)
    return [
      newPrincipal,
      `Add-MailboxPermission -Identity ${mailbox} -User ${quote(String(oid))} -AccessRights FullAccess`,
    ];
  // Without a scope the role is one over every mailbox. Its name has 64 characters at most.
  const scope = quote(`Flowpost ${login.username}`.slice(0, 64));
  return [
    newPrincipal,
    `New-ManagementScope -Name ${scope} -RecipientRestrictionFilter ${quote(`PrimarySmtpAddress -eq ${mailbox}`)}`,
    `New-ManagementRoleAssignment -App ${quote(String(oid))} -Role 'Application SMTP.SendAsApp' -CustomResourceScope ${scope}`,
  ];
}

/** The same failure, with what is to be run behind its hint. */
export function withExchangeCommands(thrown: unknown, login: Login, isRbac = false): MailError {
  const error = toMailError(thrown);
  const commands = missingExchangeCommands(error, login, isRbac);
  if (commands.length === 0) return error;
  const hint = `${error.hint} Run in Exchange Online PowerShell: ${commands.join('; ')}`;
  return Object.assign(error, { hint }).addDetails({ powershell: commands });
}
