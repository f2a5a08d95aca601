import { type SecretBox, SecretText, type StoredTokens } from '@flowpost/core';

/** Tokens as the encrypted text a store keeps that outlives the process. */
export async function sealTokens(
  { accessToken, refreshToken, ...rest }: StoredTokens,
  box: SecretBox,
): Promise<string> {
  const clear = { ...rest, accessToken: accessToken?.reveal(), refreshToken: refreshToken?.reveal() };
  return (await box.encrypt(JSON.stringify(clear))).compact;
}

/**
 * Tokens again, of what {@link sealTokens} made.
 *
 * @throws MailError `SECRET_KEY_MISSING`, `ENCRYPTED_TEXT_INVALID`.
 */
export async function openTokens(sealed: string, box: SecretBox): Promise<StoredTokens> {
  const { accessToken, refreshToken, ...rest } = JSON.parse(await box.decrypt(sealed));
  return {
    ...rest,
    ...(accessToken !== undefined && { accessToken: new SecretText(accessToken) }),
    ...(refreshToken !== undefined && { refreshToken: new SecretText(refreshToken) }),
  };
}
