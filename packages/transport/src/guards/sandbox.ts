import {
  domainOf,
  formatAddress,
  MailError,
  type MailSender,
  type OutgoingMessage,
  parseAddresses,
  type Sandbox,
  type SendOptions,
  type SendReceipt,
} from '@flowpost/core';

/**
 * The message as a sandbox lets it out: redirected, or as it is when it goes to listed domains only.
 *
 * @throws MailError `RECIPIENT_NOT_ALLOWED` when a recipient is outside of them; then nobody gets it.
 */
export function applySandbox(
  message: OutgoingMessage,
  { redirectTo, allowDomains = [] }: Sandbox,
): OutgoingMessage {
  const recipients = parseAddresses([message.to ?? [], message.cc ?? [], message.bcc ?? []]);
  // Without recipients there is nothing to redirect; the sender says so.
  if (redirectTo && recipients.length > 0) {
    const meant = recipients.map((one) => formatAddress(one)).join(', ');
    const headers = { ...message.headers, 'X-Original-Recipients': meant };
    return { ...message, headers, to: [redirectTo], cc: [], bcc: [] };
  }
  const allowed = new Set(allowDomains.map((domain) => domainOf(`@${domain}`)));
  const outside = recipients
    .map(({ address }) => address)
    .filter((address) => !allowed.has(domainOf(address)));
  if (outside.length === 0 || redirectTo) return message;
  throw new MailError('RECIPIENT_NOT_ALLOWED', `The sandbox lets no mail go to ${outside.join(', ')}.`, {
    details: { addresses: outside, allowDomains },
  });
}

class SandboxSender implements MailSender {
  readonly #sender: MailSender;
  readonly #sandbox: Sandbox;

  constructor(sender: MailSender, sandbox: Sandbox) {
    this.#sender = sender;
    this.#sandbox = sandbox;
  }

  async send(message: OutgoingMessage, options?: SendOptions): Promise<SendReceipt> {
    const released = applySandbox(message, this.#sandbox);
    // Those it would be limited to get nothing here.
    const isRedirected = released !== message && options?.onlyTo !== undefined;
    return this.#sender.send(released, isRedirected ? { ...options, onlyTo: undefined } : options);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#sender[Symbol.asyncDispose]();
  }
}

/**
 * A sender for trying things out: everything goes to one mailbox instead, or to the listed domains only.
 *
 * The sender it returns throws `RECIPIENT_NOT_ALLOWED` when a recipient is outside of them; then nobody gets it.
 */
export function withSandbox(sender: MailSender, sandbox: Sandbox): MailSender {
  return new SandboxSender(sender, sandbox);
}
