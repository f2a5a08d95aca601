import { type KeyObject, sign } from 'node:crypto';
import { SecretText } from '@flowpost/core';
import type { AuthProviderOptions } from '../auth-provider.ts';
import { readGoogleKey } from '../google-key.ts';
import { gmailScope, googleTokenEndpoint } from '../issuers.ts';
import { incomplete, type TokenSource } from '../token-provider.ts';
import {
  type CertificateCredential,
  certificateExpiry,
  hasTimeLeft,
  loadFiles,
  readCredential,
} from './certificate-credential.ts';

/** The password of every .p12 file that Google hands out. */
const usualPassword = 'notasecret';

/** Google takes at most an hour. */
const lifetimeSeconds = 3_600;

const base64url = (value: string | Buffer): string => Buffer.from(value).toString('base64url');

/** The assertion of a service account that acts as a user (RFC 7523 section 2.1, RS256). */
function signAssertion(key: KeyObject, keyId: string | undefined, claims: object): SecretText {
  const header = { alg: 'RS256', typ: 'JWT', ...(keyId !== undefined && { kid: keyId }) };
  const signed = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`;
  return new SecretText(`${signed}.${base64url(sign('sha256', Buffer.from(signed), key))}`);
}

/**
 * Tokens of Google for a service account with domain-wide delegation that acts as `user`; its key is a .p12 file or Google's JSON
 * key.
 *
 * @see https://developers.google.com/identity/protocols/oauth2/service-account
 */
export async function googleServiceAccount(
  credential: CertificateCredential,
  options: AuthProviderOptions,
): Promise<TokenSource> {
  const { assertRsaKey, assertValidNow, openCertificate } = await loadFiles();
  const read = await readCredential(credential, options);
  const { file, fileHash, password = usualPassword, user, clientId, clock } = read;
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
    isCurrent: async () =>
      (!opened || hasTimeLeft(opened.certificate, clock.now())) && (await read.isCurrent()),
    identity: [credential.kind, 'google', endpoint, issuer, fileHash, scope, user],
    request: () => {
      if (opened) assertValidNow(opened.certificate, clock.now());
      const iat = Math.floor(clock.now() / 1_000);
      const claims = { iss: issuer, scope, aud: endpoint, iat, exp: iat + lifetimeSeconds, sub: user };
      const assertion = signAssertion(key, json?.privateKeyId, claims);
      return { endpoint, client: { kind: 'none' }, grant: { kind: 'jwt-bearer', assertion } };
    },
    ...(opened && { expiry: certificateExpiry(opened.certificate) }),
  };
}
