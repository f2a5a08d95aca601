import { MailError } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import type { ExternalLogger } from 'nodemailer/lib/shared';
import { replyFailure } from '../diagnosis/reply-failure.ts';
import { rejectedRecipients } from './session-failure.ts';

/**
 * Listens to an SMTP session: what the server announced, and how it answered for each recipient before the first
 * byte of the message leaves. Keeps no command, so it keeps no secret.
 */
export class SmtpDialogue {
  /** The keywords of the last EHLO reply with their parameters, in upper case (RFC 5321 section 4.1.1.1). */
  readonly extensions = new Map<string, readonly string[]>();
  /** How many replies came since the session began. */
  replies = 0;
  /** The replies to RCPT TO of the current message, in the order of its recipients. */
  recipientReplies: string[] = [];
  /** Called for every reply. */
  onReply: (() => void) | undefined;
  readonly #awaited: string[] = [];

  /** In the shape the SMTP library logs to. */
  readonly logger: ExternalLogger = {
    debug: ({ tnx }: { tnx?: string }, text: string) => {
      if (tnx === 'client') this.#command(text);
      else if (tnx === 'server') this.#reply(text);
    },
  };

  #command(text: string): void {
    const verb = text.slice(0, 4).toUpperCase();
    if (verb === 'MAIL') this.recipientReplies = [];
    this.#awaited.push(verb);
  }

  #reply(text: string): void {
    // The greeting comes unasked.
    const verb = this.replies++ === 0 ? undefined : this.#awaited.shift();
    if (verb === 'EHLO' && text.startsWith('2')) this.#readExtensions(text);
    else if (verb === 'RCPT') this.recipientReplies.push(text);
    this.onReply?.();
  }

  #readExtensions(text: string): void {
    this.extensions.clear();
    for (const line of text.split('\n').slice(1)) {
      // Some servers write AUTH=PLAIN for clients from before RFC 4954.
      const [keyword = '', ...parameters] = line
        .slice(4)
        .trim()
        .toUpperCase()
        .split(/[\s=]+/);
      if (keyword !== '')
        this.extensions.set(keyword, [...(this.extensions.get(keyword) ?? []), ...parameters]);
    }
  }

  /**
   * What the server cannot carry is refused before it is asked.
   *
   * @throws MailError `MESSAGE_TOO_LARGE` or `SMTPUTF8_NOT_OFFERED`.
   */
  assertCarries({ envelope, sizeBytes }: ComposedMessage): void {
    const limitBytes = Number(this.extensions.get('SIZE')?.[0]);
    if (limitBytes > 0 && sizeBytes > limitBytes) {
      const message = `The message has ${sizeBytes} bytes, and the server takes ${limitBytes}.`;
      throw new MailError('MESSAGE_TOO_LARGE', message, {
        phase: 'envelope',
        details: { sizeBytes, limitBytes },
      });
    }
    if (envelope.smtpUtf8 && !this.extensions.has('SMTPUTF8')) {
      throw new MailError(
        'SMTPUTF8_NOT_OFFERED',
        'The server takes no addresses with non-ASCII local parts.',
        {
          phase: 'envelope',
        },
      );
    }
  }

  /**
   * Asked once every RCPT TO is answered and no byte of the message has left.
   *
   * @throws MailError `RECIPIENTS_REFUSED` or `RECIPIENTS_DEFERRED` when the server did not accept all of them.
   */
  assertAllAccepted(recipients: readonly string[], scrub: (text: string) => string): void {
    const answers = this.recipientReplies.map((response, index) => ({
      recipient: recipients[index],
      response,
    }));
    const rejected = rejectedRecipients(
      answers.filter(({ response }) => !response.startsWith('2')),
      scrub,
    );
    const worst = rejected.find(({ code }) => code < 400 || code >= 500) ?? rejected[0];
    if (worst)
      throw replyFailure('recipients', 'envelope', { code: worst.code, text: worst.reply }, { rejected });
  }
}
