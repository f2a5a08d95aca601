import {
  type AddressInput,
  MailError,
  type MailSender,
  mailboxKey,
  type OutgoingMessage,
  parseAddresses,
  type SendOptions,
  type SendReceipt,
} from '@flowpost/core';

/** The message that started the flow. */
export interface MailTrigger {
  /** Its From, as it stands there. */
  readonly from: string;
  /** Its header, by name in any case: an object, or what is gone through as names and values, such as a Map or `Headers`. */
  readonly headers?:
    | Readonly<Record<string, string | readonly string[]>>
    | Iterable<readonly [name: string, value: string | readonly string[]]>
    | undefined;
}

/** The addresses in a text that comes from outside; where it cannot be read, whatever in it looks like one. */
function readable(text: string): string[] {
  try {
    return parseAddresses(text).map(({ address }) => address);
  } catch {
    // Without limits to its length, a long text without an @ would be looked through from each of its characters on.
    return [...text.matchAll(/[^\s<>,;:"()[\]]{1,256}@[^\s<>,;:"()]{1,256}/g)].map(([address]) => address);
  }
}

/** A value without comments, which may hold others (RFC 5322 section 3.2.2), and without parameters. */
function plainValue(value: string): string {
  let plain = '';
  let depth = 0;
  for (const part of value.split(/([()])/)) {
    if (part === '(') depth++;
    else if (part === ')') depth = Math.max(0, depth - 1);
    else if (depth === 0) plain += part;
  }
  return (plain.split(';')[0] ?? '').trim().toLowerCase();
}

/** Why a message must not be answered by a machine (RFC 3834 section 2), or undefined. */
function automaticReason(headers: ReadonlyMap<string, readonly string[]>): string | undefined {
  const values = (name: string): string[] => (headers.get(name) ?? []).map(plainValue);
  const submitted = values('auto-submitted').find((value) => value !== 'no');
  if (submitted !== undefined) return `Auto-Submitted: ${submitted}`;
  const precedence = values('precedence').find((value) =>
    ['bulk', 'junk', 'list', 'auto_reply'].includes(value),
  );
  if (precedence !== undefined) return `Precedence: ${precedence}`;
  if (values('return-path').includes('<>')) return 'an empty Return-Path';
  // Of what it may suppress, reports and receipts say nothing of who wrote it (MS-OXCMAIL section 2.2.3.2.14).
  const suppressed = headers.get('x-auto-response-suppress') ?? [];
  const isHarmless = (value: string): boolean =>
    value.split(/[,;\s]+/).every((one) => /^(?:dr|ndr|rn|nrn|none|)$/i.test(one));
  if (!suppressed.every(isHarmless)) return 'X-Auto-Response-Suppress';
  return [...headers.keys()].find((name) => /^(?:list-.*|x-autoreply|x-autorespond)$/.test(name));
}

/** Header fields beside From that say where a message came from. */
const sourceFields = ['sender', 'reply-to', 'return-path', 'resent-from', 'resent-sender'];

function valuesByName({ headers = {} }: MailTrigger): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
    const key = name.toLowerCase();
    values.set(key, [...(values.get(key) ?? []), ...[value].flat()]);
  }
  return values;
}

/** The mailboxes that a message came from, as `mailboxKey` spells them: its From, and whoever else it names as its source. */
export function mailboxesOf(trigger: MailTrigger): ReadonlySet<string> {
  const headers = valuesByName(trigger);
  const sources = sourceFields.flatMap((name) => headers.get(name) ?? []);
  // Whose From is not known is not known, whatever the host has in its place.
  return new Set([trigger.from ?? '', ...sources].flatMap(readable).map(mailboxKey));
}

/** Whether a message would go round in circles, or answer a machine. */
class LoopCheck {
  readonly #mailboxes: ReadonlySet<string>;
  readonly #automatic: string | undefined;

  constructor(trigger: MailTrigger) {
    this.#mailboxes = mailboxesOf(trigger);
    const isBounce = [...this.#mailboxes].some((mailbox) => /^(?:mailer-daemon|postmaster)@/.test(mailbox));
    // Without a sender there is nothing to compare with, as in reports of failed deliveries.
    const odd =
      this.#mailboxes.size === 0 ? 'its sender is not known' : isBounce ? 'a delivery report' : undefined;
    this.#automatic = automaticReason(valuesByName(trigger)) ?? odd;
  }

  #among(recipients: AddressInput | undefined): string | undefined {
    if (recipients === undefined) return undefined;
    return parseAddresses(recipients).find(({ address }) => this.#mailboxes.has(mailboxKey(address)))
      ?.address;
  }

  /** @throws MailError `MAIL_LOOP_BLOCKED`, `MAIL_LOOP_AUTOMATIC`. */
  assert({ to, cc, bcc }: Pick<OutgoingMessage, 'to' | 'cc' | 'bcc'>): void {
    const address = this.#among(to) ?? this.#among(cc) ?? this.#among(bcc);
    if (address !== undefined) {
      throw new MailError(
        'MAIL_LOOP_BLOCKED',
        `${address} is where the message came from that started this flow.`,
        { details: { address } },
      );
    }
    if (this.#automatic !== undefined) {
      throw new MailError(
        'MAIL_LOOP_AUTOMATIC',
        `The flow was started by automatic mail (${this.#automatic}).`,
        {
          details: { reason: this.#automatic },
        },
      );
    }
  }
}

class LoopGuard implements MailSender {
  readonly #sender: MailSender;
  readonly #check: LoopCheck;

  constructor(sender: MailSender, trigger: MailTrigger) {
    this.#sender = sender;
    this.#check = new LoopCheck(trigger);
  }

  async send(message: OutgoingMessage, options?: SendOptions): Promise<SendReceipt> {
    this.#check.assert(message);
    return this.#sender.send(message, options);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#sender[Symbol.asyncDispose]();
  }
}

/**
 * What a sender of {@link withLoopGuard} would say of a message.
 *
 * @throws MailError `MAIL_LOOP_BLOCKED`, `MAIL_LOOP_AUTOMATIC`.
 */
export const assertNoLoop = (message: OutgoingMessage, trigger: MailTrigger): void =>
  new LoopCheck(trigger).assert(message);

/**
 * A sender for a flow that an incoming message started: it refuses to send to the mailbox that message came from, in
 * To, Cc or Bcc, however it is spelled, and to send at all when that message was automatic or bulk mail.
 *
 * The sender it returns throws `MAIL_LOOP_BLOCKED` or `MAIL_LOOP_AUTOMATIC`.
 */
export function withLoopGuard(sender: MailSender, trigger: MailTrigger): MailSender {
  return new LoopGuard(sender, trigger);
}
