import { MailError } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';

/** What a server announced after EHLO (RFC 5321 section 4.1.1.1): keywords with their parameters, in upper case. */
export type Extensions = ReadonlyMap<string, readonly string[]>;

export function readExtensions(ehloReply: string): Extensions {
  const extensions = new Map<string, readonly string[]>();
  for (const line of ehloReply.split('\n').slice(1)) {
    // Some servers write AUTH=PLAIN for clients from before RFC 4954.
    const [keyword = '', ...parameters] = line
      .slice(4)
      .trim()
      .toUpperCase()
      .split(/[\s=]+/);
    if (keyword !== '') extensions.set(keyword, [...(extensions.get(keyword) ?? []), ...parameters]);
  }
  return extensions;
}

/**
 * What the server cannot carry is refused before it is asked.
 *
 * @throws MailError `MESSAGE_TOO_LARGE`, `SMTPUTF8_NOT_OFFERED` or `REQUIRETLS_NOT_OFFERED`.
 */
export function assertCarries(
  extensions: Extensions,
  { envelope, sizeBytes }: Pick<ComposedMessage, 'envelope' | 'sizeBytes'>,
  { requireTls, encrypted }: { readonly requireTls: boolean; readonly encrypted: boolean },
): void {
  const limitBytes = Number(extensions.get('SIZE')?.[0]);
  if (limitBytes > 0 && sizeBytes > limitBytes) {
    const message = `The message has ${sizeBytes} bytes, and the server takes ${limitBytes}.`;
    throw new MailError('MESSAGE_TOO_LARGE', message, {
      phase: 'envelope',
      details: { sizeBytes, limitBytes },
    });
  }
  if (envelope.smtpUtf8 && !extensions.has('SMTPUTF8')) {
    const message = 'The server takes no addresses with non-ASCII local parts.';
    throw new MailError('SMTPUTF8_NOT_OFFERED', message, { phase: 'envelope' });
  }
  // RFC 8689 section 2: a promise made in clear is none.
  if (requireTls && !(encrypted && extensions.has('REQUIRETLS'))) {
    const message = 'The server does not promise to pass the message on over TLS only.';
    throw new MailError('REQUIRETLS_NOT_OFFERED', message, { phase: 'envelope' });
  }
}
