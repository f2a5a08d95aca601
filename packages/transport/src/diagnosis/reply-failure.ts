import { type ErrorCode, type ErrorDetails, MailError, type Phase } from '@flowpost/core';

/** A server's reply (RFC 5321 section 4.2), taken apart. */
export interface SmtpReply {
  readonly code: number;
  /** The enhanced status code of RFC 3463, such as 5.7.8. */
  readonly enhancedCode?: string;
  /** The whole reply. */
  readonly text: string;
}

export function parseReply(text: string): SmtpReply | undefined {
  const parts = /^(\d{3})(?:[ -]|$)(?:([245]\.\d{1,3}\.\d{1,3})(?:\s|$))?/.exec(text);
  if (!parts) return undefined;
  return { code: Number(parts[1]), text, ...(parts[2] !== undefined && { enhancedCode: parts[2] }) };
}

/** What was refused: each has a code for "no" (5yz) and one for "later" (4yz). */
export type Refused = 'greeting' | 'auth' | 'sender' | 'recipients' | 'message';

const codes: Readonly<
  Record<Refused, { readonly permanent: ErrorCode; readonly transient: ErrorCode; readonly what: string }>
> = {
  greeting: { permanent: 'GREETING_REFUSED', transient: 'GREETING_DEFERRED', what: 'the session' },
  auth: { permanent: 'AUTH_REFUSED', transient: 'AUTH_DEFERRED', what: 'the login' },
  sender: { permanent: 'SENDER_REFUSED', transient: 'SENDER_DEFERRED', what: 'the sender' },
  recipients: { permanent: 'RECIPIENTS_REFUSED', transient: 'RECIPIENTS_DEFERRED', what: 'the recipients' },
  message: { permanent: 'MESSAGE_REFUSED', transient: 'MESSAGE_DEFERRED', what: 'the message' },
};

/** A negative reply as an error. Whether it is final is in its first digit, and nowhere else. */
export function refusal(
  refused: Refused,
  phase: Phase,
  reply: SmtpReply,
  details: ErrorDetails = {},
): MailError {
  const { permanent, transient, what } = codes[refused];
  const { code, enhancedCode, text } = reply;
  return new MailError(
    code >= 400 && code < 500 ? transient : permanent,
    `The server refused ${what}: ${text}`,
    {
      phase,
      replyCode: code,
      details: {
        replyCode: code,
        ...(enhancedCode !== undefined && { enhancedCode }),
        reply: text,
        ...details,
      },
    },
  );
}
