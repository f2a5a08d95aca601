/** Which one it is depends on how the message goes. */
const scopes =
  'https://outlook.office365.com/.default for SMTP, https://graph.microsoft.com/.default for Microsoft Graph. Left out, it is the right one.';

/**
 * What to do about the numbers in Entra's error_codes.
 *
 * @see https://learn.microsoft.com/entra/identity-platform/reference-error-codes
 */
const hints: Readonly<Record<number, string>> = {
  7000215: "The client secret is wrong. Copy the secret's Value, not its Secret ID, and copy all of it.",
  7000222: 'The client secret has expired. Make a new one, or use a certificate.',
  700016:
    'The tenant does not know this application id. Check client id and tenant; a multi-tenant application needs consent in this tenant.',
  90002: 'There is no such tenant. Check the tenant id or domain in the token endpoint.',
  900023: 'There is no such tenant. Check the tenant id or domain in the token endpoint.',
  50059:
    'The token endpoint names no tenant. Put the tenant id in the place of common, organizations or consumers.',
  50194:
    'The application is for its own tenant alone. Use the token endpoint of that tenant, or make the application multi-tenant.',
  7000229:
    'The application has no service principal in this tenant. Have an administrator consent to it there.',
  700027:
    'Entra does not know the certificate that signed the request. Upload this certificate to the application, or use the one that is there.',
  50012:
    'Entra does not accept the certificate or what it signed. Check that the certificate is uploaded and has not expired.',
  50027: "Entra cannot read the signed request. Check this machine's clock and the token endpoint.",
  700024: "The signed request is outside its time. Check this machine's clock.",
  700030:
    'The certificate is not for this application. Upload it to the application whose client id is used.',
  500011:
    'The scope names a service this tenant does not have. Leave it out, or check it for typing errors and that Exchange Online is there.',
  1002012: `The scope must end in /.default: ${scopes}`,
  70011: `The scope is not valid: ${scopes}`,
  28002: 'The scope names more than one service. Use one, with /.default.',
  700022: 'The scope names more than one service. Use one, with /.default.',
  65001: 'An administrator must grant consent to the application.',
  53003:
    'A conditional access policy blocked the token. Have an administrator exclude the application or allow this network.',
  530035: 'Security defaults blocked the token. Have an administrator allow the application.',
  7000112: 'The application is disabled in this tenant. Have an administrator enable it.',
  70001:
    'The application is disabled or not in this tenant. Have an administrator enable it, and check client id and tenant.',
  70008: 'The refresh token has expired. Sign in again, or move to OAuth2 client credentials.',
  700082:
    'The refresh token has expired from lack of use. Sign in again, or move to OAuth2 client credentials.',
  50173: 'The refresh token was revoked, usually because the password changed. Sign in again.',
  90033: 'Entra has a passing fault. Try again in a few minutes.',
  50196: 'Entra sees a loop of requests. Wait some minutes, and check that tokens are kept between sends.',
};

/** The hint for the first number we know. */
export function hintForEntraCode(codes: readonly number[]): string | undefined {
  return codes.map((code) => hints[code]).find((hint) => hint !== undefined);
}
