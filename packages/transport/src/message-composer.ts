import {
  type Dkim,
  type EmailMessageInput,
  MailError,
  type OutgoingMessage,
  parseMessage,
  readRegularFile,
  revealSecret,
  type SecretBox,
  type SmtpConnection,
} from '@flowpost/core';
import {
  type AttachmentPolicy,
  type ComposedMessage,
  composeMessage,
  DkimSigner,
} from '@flowpost/mime-attachments';

/** What composing needs beside the message: what may be attached, and the keys of encrypted text. */
export interface ComposerOptions {
  /** What attachments may be read. */
  readonly attachments?: AttachmentPolicy | undefined;
  /** Opens encrypted text in the connection. */
  readonly secretBox?: SecretBox | undefined;
}

/** @throws MailError `MESSAGE_TOO_LARGE` when a message is over the limit, where there is one. */
export function assertAllowedSize(sizeBytes: number, limitBytes: number | undefined): void {
  if (limitBytes === undefined || sizeBytes <= limitBytes) return;
  const message = `The message has ${sizeBytes} bytes, and ${limitBytes} are allowed.`;
  throw new MailError('MESSAGE_TOO_LARGE', message, { details: { sizeBytes, limitBytes } });
}

/** What attachments may be read for a message of so many bytes at most: no more, because they only grow in it. */
export function withinMessage(
  policy: AttachmentPolicy | undefined,
  messageBytes: number | undefined,
): AttachmentPolicy | undefined {
  if (messageBytes === undefined) return policy;
  const { maxTotalBytes = policy?.maxBytes } = policy ?? {};
  return { ...policy, maxTotalBytes: Math.min(messageBytes, maxTotalBytes ?? messageBytes) };
}

/** The message with the connection's From when it has none; the same one when it has. */
export function withFrom(message: OutgoingMessage, from: SmtpConnection['from']): EmailMessageInput {
  // From plain JavaScript there may be nothing at all; whoever reads the message says so, as of a missing From.
  return (message?.from === undefined && from ? { ...message, from } : message) as EmailMessageInput;
}

/** What of a connection matters for its messages. */
type ComposedFor = Pick<SmtpConnection, 'from' | 'dkim'> & {
  readonly limits?: { readonly messageBytes?: number | undefined } | undefined;
};

/** The longest RSA key anybody has is a tenth of it. */
const largestKeyBytes = 64 * 1024;

async function readKey(
  { privateKey, privateKeyFile = '' }: Dkim,
  box: SecretBox | undefined,
): Promise<string> {
  if (privateKey !== undefined) return revealSecret(privateKey, box);
  try {
    return (await readRegularFile(privateKeyFile, largestKeyBytes)).toString('utf8');
  } catch (cause) {
    throw new MailError('DKIM_KEY_INVALID', `The file of the DKIM key cannot be read: ${privateKeyFile}.`, {
      details: { path: privateKeyFile, reason: (cause as NodeJS.ErrnoException).code },
      cause,
    });
  }
}

/** Composes messages for a connection: with its From address, signed by its keys, within its size limit. */
export class MessageComposer {
  readonly #connection: ComposedFor;
  readonly #options: ComposerOptions;
  readonly #attachments: AttachmentPolicy | undefined;
  #signers: Promise<DkimSigner[]> | undefined;

  constructor(connection: ComposedFor, options: ComposerOptions = {}) {
    this.#connection = connection;
    this.#options = options;
    this.#attachments = withinMessage(options.attachments, connection.limits?.messageBytes);
  }

  /**
   * @param mayWait whether it may be a while until it is sent.
   * @param includeBcc whether its header names those in Bcc, for a server that has no other way to learn of them.
   * @throws MailError as `composeMessage` does; `DKIM_KEY_INVALID`; `MESSAGE_TOO_LARGE`.
   */
  async compose(
    input: OutgoingMessage,
    signal?: AbortSignal,
    mayWait = false,
    includeBcc = false,
  ): Promise<ComposedMessage> {
    const attachments = this.#attachments;
    const given = withFrom(input, this.#connection.from);
    const { dkim: identities } = this.#connection;
    // Before anything is waited for: whoever gave it may use it for the next one.
    const parsed = identities ? parseMessage(given) : given;
    const dkim = identities && (await this.#openKeys(identities));
    const message = await composeMessage(parsed, {
      ...{ signal, mayWait, includeBcc, ...(attachments && { attachments }), ...(dkim && { dkim }) },
    });
    try {
      assertAllowedSize(message.sizeBytes, this.#connection.limits?.messageBytes);
      return message;
    } catch (error) {
      if (!Buffer.isBuffer(message.body)) message.body.destroy();
      throw error;
    }
  }

  /** Keys are read once; one that could not be read is tried anew. */
  #openKeys(identities: readonly Dkim[]): Promise<DkimSigner[]> {
    this.#signers ??= Promise.all(
      identities.map(async (identity) => {
        const { domain, selector } = identity;
        return new DkimSigner({
          domain,
          selector,
          privateKey: await readKey(identity, this.#options.secretBox),
        });
      }),
    );
    this.#signers.catch(() => {
      this.#signers = undefined;
    });
    return this.#signers;
  }
}
