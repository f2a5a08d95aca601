/**
 * The steps of one delivery, in order. An error names the step in which it happened, and that step, with the
 * server's reply code, decides two things: whether sending again may help, and whether the server may already
 * have the message.
 *
 * | phase | what happens |
 * | --- | --- |
 * | `validate` | settings, addresses and headers are checked |
 * | `attachments` | attachments are read or fetched |
 * | `token` | an access token is fetched |
 * | `resolve` | the host name is looked up |
 * | `connect` | the TCP connection is opened |
 * | `tls` | the TLS handshake, implicit or after STARTTLS |
 * | `greeting` | the server's 220 and the EHLO exchange |
 * | `auth` | the SASL exchange |
 * | `envelope` | MAIL FROM, RCPT TO and DATA up to the 354 reply |
 * | `data` | the message's bytes leave |
 * | `confirm` | everything has left, up to the final dot; the reply to it is awaited |
 */
export const phases = [
  'validate',
  'attachments',
  'token',
  'resolve',
  'connect',
  'tls',
  'greeting',
  'auth',
  'envelope',
  'data',
  'confirm',
] as const;

/** One step of a delivery; see {@link phases}. */
export type Phase = (typeof phases)[number];

/**
 * Whether the server may have accepted the message although we were never told: everything up to the final
 * dot was handed over, and no reply came (RFC 5321 section 4.5.3.2.6, RFC 1047).
 */
export function isInDoubt(phase: Phase, replyCode?: number): boolean {
  return phase === 'confirm' && replyCode === undefined;
}

/**
 * Whether the same request may succeed later, judged by RFC 5321 section 4.2.1: a 4yz reply is temporary and a
 * 5yz reply is final. Without a reply, a failure of the network before the final dot is temporary, and one
 * after it is in doubt and therefore not to be repeated blindly.
 */
export function isRetryable(phase: Phase, replyCode?: number): boolean {
  if (replyCode !== undefined) return replyCode >= 400 && replyCode < 500;
  return phases.indexOf(phase) >= phases.indexOf('token') && phase !== 'confirm';
}
