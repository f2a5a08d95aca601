import { createHash, type KeyObject, sign, type X509Certificate } from 'node:crypto';
import { type CredentialOf, revealSecret, SecretText, systemClock } from '@flowpost/core';
import type { AuthProvider, AuthProviderOptions, CredentialExpiry } from '../auth-provider.ts';
import { readGoogleKey } from '../google-key.ts';
import { exchangeOnlineScope, gmailScope, googleTokenEndpoint } from '../issuers.ts';
import {
  assertEntraPermission,
  incomplete,
  resolveTokenEndpoint,
  revealer,
  type TokenSource,
  tokenProvider,
} from '../token-provider.ts';

type CertificateCredential = CredentialOf<'oauth2-certificate'>;

/** The password of every .p12 file that Google hands out. */
const usualPassword = 'notasecret';

/** Google takes at most an hour. */
const googleLifetimeSeconds = 3_600;

/** Reading certificates takes a parser, which those without one need not load. */
const loadFiles = () => import('../certificate-file.ts');

const base64url = (value: string | Buffer): string => Buffer.from(value).toString('base64url');

/** The assertion of a Google service account that acts as a user (RFC 7523 section 2.1, RS256). */
function googleAssertion(key: KeyObject, keyId: string | undefined, claims: object): SecretText {
  const header = { alg: 'RS256', typ: 'JWT', ...(keyId !== undefined && { kid: keyId }) };
  const signed = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`;
  return new SecretText(`${signed}.${base64url(sign('sha256', Buffer.from(signed), key))}`);
}

/** Whether a certificate has not ended. The file may hold the next one, with another key, before this one has. */
const hasTimeLeft = ({ validToDate }: X509Certificate, now: number): boolean => validToDate.getTime() >= now;

const certificateExpiry = ({ validToDate }: X509Certificate): CredentialExpiry => ({
  what: 'certificate',
  expiresAt: validToDate.getTime(),
});

/**
 * A certificate instead of a secret. `entra`: client credentials with private_key_jwt (PS256, `x5t#S256`). `google`: a
 * service account with domain-wide delegation that acts as `user`; its key is a .p12 file or Google's JSON key.
 *
 * @see https://learn.microsoft.com/entra/identity-platform/certificate-credentials
 * @see https://developers.google.com/identity/protocols/oauth2/service-account
 */
export function certificateProvider(
  credential: CertificateCredential,
  options: AuthProviderOptions = {},
): AuthProvider {
  const { secretBox, clock = systemClock } = options;
  const reveal = revealer(secretBox);

  const read = async () => {
    const { certificateFileVersion, readCertificateFile } = await loadFiles();
    const { certificatePassword } = credential;
    const path = await reveal(credential.certificateFile);
    const file =
      credential.certificate?.reveal() ?? (path === undefined ? undefined : await readCertificateFile(path));
    if (!file) throw incomplete('certificate', 'certificateFile');
    const versionOf = (): Promise<string> | undefined =>
      credential.certificate || path === undefined
        ? undefined
        : certificateFileVersion(path).catch(() => 'unreadable');
    const version = await versionOf();
    return {
      // A file that has gone is still good for what was read from it.
      isCurrent: async () => [version, 'unreadable'].includes(await versionOf()),
      file,
      fileHash: createHash('sha256').update(file).digest('base64url'),
      password: certificatePassword && (await revealSecret(certificatePassword, secretBox)),
      user: (await reveal(credential.user)) ?? '',
      clientId: await reveal(credential.clientId),
    };
  };

  const openEntra = async (): Promise<TokenSource> => {
    const { assertRsaKey, assertValidNow, openCertificate } = await loadFiles();
    const { file, fileHash, password, user, clientId, isCurrent } = await read();
    const tenant = await reveal(credential.tenantId);
    const endpoint = resolveTokenEndpoint(credential.tokenEndpoint, tenant, credential.scope);
    if (clientId === undefined) throw incomplete('clientId');
    const { certificate, privateKey } = await openCertificate(file, password, clock.now());
    assertRsaKey(privateKey);
    const scope = credential.scope ?? exchangeOnlineScope;
    const thumbprint = createHash('sha256').update(certificate.raw).digest('base64url');
    return {
      user,
      isCurrent: async () => hasTimeLeft(certificate, clock.now()) && (await isCurrent()),
      // The application's own token, whoever it sends as.
      identity: [credential.kind, 'entra', endpoint, clientId, fileHash, scope],
      request: () => {
        assertValidNow(certificate, clock.now());
        return {
          endpoint,
          client: { kind: 'private-key-jwt', clientId, key: privateKey, thumbprint },
          grant: { kind: 'client-credentials', scope },
        };
      },
      ...(!credential.exchangeRbac && { check: assertEntraPermission }),
      expiry: certificateExpiry(certificate),
    };
  };

  const openGoogle = async (): Promise<TokenSource> => {
    const { assertRsaKey, assertValidNow, openCertificate } = await loadFiles();
    const { file, fileHash, password = usualPassword, user, clientId, isCurrent } = await read();
    const json = readGoogleKey(file);
    const openWith = (one: string) => openCertificate(file, one, clock.now());
    // An empty one may be one, or a field that was left empty.
    const open = () =>
      password === '' ? openWith('').catch(() => openWith(usualPassword)) : openWith(password);
    const opened = json ? undefined : await open();
    const key = json?.privateKey ?? opened?.privateKey;
    const issuer = clientId ?? json?.clientEmail;
    if (!key || issuer === undefined) throw incomplete('clientId');
    assertRsaKey(key);
    const scope = credential.scope ?? gmailScope;
    const endpoint = credential.tokenEndpoint ?? json?.tokenUri ?? googleTokenEndpoint;
    return {
      user,
      isCurrent: async () => (!opened || hasTimeLeft(opened.certificate, clock.now())) && (await isCurrent()),
      identity: [credential.kind, 'google', endpoint, issuer, fileHash, scope, user],
      request: () => {
        if (opened) assertValidNow(opened.certificate, clock.now());
        const iat = Math.floor(clock.now() / 1_000);
        const claims = {
          iss: issuer,
          scope,
          aud: endpoint,
          iat,
          exp: iat + googleLifetimeSeconds,
          sub: user,
        };
        const assertion = googleAssertion(key, json?.privateKeyId, claims);
        return { endpoint, client: { kind: 'none' }, grant: { kind: 'jwt-bearer', assertion } };
      },
      ...(opened && { expiry: certificateExpiry(opened.certificate) }),
    };
  };

  const open = { entra: openEntra, google: openGoogle }[credential.assertion];
  return tokenProvider(open, options);
}
