import { type ErrorCode, type ErrorDetails, MailError, type Phase } from '@flowpost/core';
import { genericReplies } from './replies/generic.ts';
import { gmailReplies } from './replies/gmail.ts';
import { microsoft365Replies } from './replies/microsoft365.ts';
import type { Refused, ReplyRule } from './reply-rule.ts';

export type { Refused } from './reply-rule.ts';

/** A server's reply (RFC 5321 section 4.2), taken apart. */
export interface SmtpReply {
  readonly code: number;
  /** The enhanced status code of RFC 3463, such as 5.7.8. */
  readonly enhancedCode?: string;
  /** The whole reply. */
  readonly text: string;
}

export function parseReply(text: string): SmtpReply | undefined {
  if (!/^\d{3}(?:[ -]|$)/.test(text)) return undefined;
  const code = Number(text.slice(0, 3));
  const enhancedCode = /^([245]\.\d{1,3}\.\d{1,3})(?:\s|$)/.exec(text.slice(4, 15))?.[1];
  return enhancedCode === undefined ? { code, text } : { code, text, enhancedCode };
}

/**
 * Too many of something (RFC 3463 section 3.6), before there are recipients: messages in this session, as OpenSMTPD says it. It leaves
 * the session open, and takes nothing more in it.
 */
export const isUsedUp = ({
  code,
  enhancedCode,
}: {
  readonly code?: unknown;
  readonly enhancedCode?: unknown;
}): boolean => code === 452 && enhancedCode === '4.5.3';

/** A recipient who was refused. */
interface RefusedRecipient {
  readonly code: number;
  readonly reply: string;
}

/** Enhanced codes of a message that is larger than a recipient or the server takes (RFC 3463 sections 3.3 and 3.4). */
const tooLarge = /^5\.(?:2\.3|3\.4)$/;

/**
 * Whether a recipient may be taken later. RFC 5321 section 4.5.3.1.10: of a recipient, 552 means 452; unless it says that the message
 * is too large, which it will be later as well.
 */
export const isRefusedForNow = ({ code, reply }: RefusedRecipient): boolean =>
  (code >= 400 && code < 500) || (code === 552 && !tooLarge.test(parseReply(reply)?.enhancedCode ?? ''));

/**
 * Whether a recipient was refused because there were enough for one message: the others get another one at once (RFC 5321
 * section 4.5.3.1.10). Without an enhanced code, 452 and 552 may mean that too.
 */
export function isOneTooMany({ code, reply }: RefusedRecipient): boolean {
  const { enhancedCode } = parseReply(reply) ?? {};
  if (enhancedCode === undefined) return code === 452 || code === 552;
  return isRefusedForNow({ code, reply }) && /^[45]\.5\.3$/.test(enhancedCode);
}

/** What servers say of sender and client when they are asked for recipients. */
const refusedLate: ReadonlySet<string> = new Set([
  'policy.sender-refused-late',
  'policy.client-refused-late',
]);

/** Whether a recipient was refused for good because of the sender or the client, so that everybody will be. */
export function isRefusedForAll(refused: RefusedRecipient): boolean {
  const said = parseReply(refused.reply);
  if (!said || isRefusedForNow(refused)) return false;
  return refusedLate.has(diagnoseReply(said, 'recipients')?.id ?? '');
}

const codes: Readonly<
  Record<Refused, { readonly permanent: ErrorCode; readonly transient: ErrorCode; readonly what: string }>
> = {
  greeting: { permanent: 'GREETING_REFUSED', transient: 'GREETING_DEFERRED', what: 'the session' },
  auth: { permanent: 'AUTH_REFUSED', transient: 'AUTH_DEFERRED', what: 'the login' },
  sender: { permanent: 'SENDER_REFUSED', transient: 'SENDER_DEFERRED', what: 'the sender' },
  recipients: { permanent: 'RECIPIENTS_REFUSED', transient: 'RECIPIENTS_DEFERRED', what: 'the recipients' },
  message: { permanent: 'MESSAGE_REFUSED', transient: 'MESSAGE_DEFERRED', what: 'the message' },
};

const rules: readonly ReplyRule[] = [...microsoft365Replies, ...gmailReplies, ...genericReplies];

function fits(rule: ReplyRule, reply: SmtpReply, refused: Refused): boolean {
  const { code, enhanced, text } = rule;
  if (rule.refused !== undefined && ![rule.refused].flat().includes(refused)) return false;
  if (code !== undefined && ![code].flat().includes(reply.code)) return false;
  if (typeof enhanced === 'string' && enhanced !== reply.enhancedCode) return false;
  if (enhanced instanceof RegExp && !enhanced.test(reply.enhancedCode ?? '')) return false;
  return text === undefined || text.test(reply.text);
}

/**
 * Exchange answers MAIL with 5.7.57 when an earlier login failed, and puts the true reason in brackets behind it.
 */
function embeddedReply({ text }: SmtpReply): SmtpReply | undefined {
  const [, inner] = /\[Error: (\d{3}[ -].*?)\]?$/m.exec(text) ?? [];
  return inner === undefined ? undefined : parseReply(inner);
}

/** What is known about a reply, the provider's own rules before the general ones. */
export function diagnoseReply(reply: SmtpReply, refused: Refused): ReplyRule | undefined {
  const embedded = embeddedReply(reply);
  const known = (one: SmtpReply, by: Refused) => rules.find((rule) => fits(rule, one, by));
  // What is embedded is about the login, whatever was refused because of it.
  return (embedded && known(embedded, 'auth')) ?? known(reply, refused);
}

/**
 * A negative reply as an error. Whether it is final is in its first digit, and nowhere else; what is known about it
 * gives the hint.
 */
export function refusal(
  refused: Refused,
  phase: Phase,
  reply: SmtpReply,
  details: ErrorDetails = {},
): MailError {
  const { permanent, transient, what } = codes[refused];
  const { code, enhancedCode, text } = reply;
  const rule = diagnoseReply(reply, refused);
  const isLater = code >= 400 && code < 500;
  const login = embeddedReply(reply)?.code === 535 ? 'AUTH_REFUSED' : undefined;
  const special = isLater ? undefined : (login ?? rule?.errorCode);
  return new MailError(special ?? (isLater ? transient : permanent), `The server refused ${what}: ${text}`, {
    phase,
    replyCode: code,
    ...(rule && { hint: rule.hint }),
    details: {
      replyCode: code,
      ...(enhancedCode !== undefined && { enhancedCode }),
      reply: text,
      ...(rule && { diagnosis: rule.id }),
      ...(rule?.retryAfterMs !== undefined && { retryAfterMs: rule.retryAfterMs }),
      ...details,
    },
  });
}
