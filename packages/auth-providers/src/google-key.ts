import { createPrivateKey, type KeyObject } from 'node:crypto';
import { MailError } from '@flowpost/core';

/** The JSON key of a Google service account. */
export interface GoogleKey {
  readonly clientEmail: string;
  readonly privateKey: KeyObject;
  readonly privateKeyId?: string;
  readonly tokenUri?: string;
}

/**
 * Reads Google's JSON key; undefined when the file is not JSON at all.
 *
 * @throws MailError `CERTIFICATE_NOT_RECOGNIZED` for JSON that is no such key; its content is not repeated.
 */
export function readGoogleKey(file: Uint8Array): GoogleKey | undefined {
  const text = Buffer.from(file.buffer, file.byteOffset, file.byteLength).toString('utf8').trimStart();
  if (!text.startsWith('{')) return undefined;
  try {
    const { client_email, private_key, private_key_id, token_uri } = JSON.parse(text);
    if (typeof client_email !== 'string' || typeof private_key !== 'string') throw new Error('incomplete');
    return {
      clientEmail: client_email,
      privateKey: createPrivateKey(private_key),
      ...(typeof private_key_id === 'string' && { privateKeyId: private_key_id }),
      ...(typeof token_uri === 'string' && { tokenUri: token_uri }),
    };
  } catch {
    throw new MailError(
      'CERTIFICATE_NOT_RECOGNIZED',
      'The JSON file is not the key of a Google service account.',
      {
        phase: 'token',
      },
    );
  }
}
