import type { EmailMessageInput } from './message.ts';
import type { SendReceipt } from './receipt.ts';
import type { SendPolicy } from './send-request.ts';

/** A message as senders take it: one without From gets that of the connection. */
export type OutgoingMessage = Omit<EmailMessageInput, 'from'> & {
  readonly from?: EmailMessageInput['from'] | undefined;
};

/** One line of the dialogue between client and server, with everything secret and the message itself replaced. */
export interface TranscriptLine {
  readonly from: 'client' | 'server';
  readonly text: string;
  /** Of a line that stands for a part of the message: how many bytes of it. */
  readonly messageBytes?: number;
}

/** Takes the lines of a transcript as they happen. */
export type TranscriptListener = (line: TranscriptLine) => void;

/** What one send may be told, beyond the message. */
export interface SendOptions
  extends Partial<Pick<SendPolicy, 'closeSession' | 'onPartial' | 'timeoutMs' | 'dsn' | 'requireTls'>> {
  /** Cancels the send. Before the final dot nothing is delivered; after it the outcome is in doubt. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Awaited after the server accepted the recipients and before the first byte of the message leaves, so that a
   * host can record "about to commit". When it fails, nothing is delivered and the send fails with its error.
   */
  readonly beforeData?: (() => void | Promise<void>) | undefined;
  /**
   * Hands the message over for these of its recipients alone, as a receipt names them; its header stays as it is. For those who
   * were refused for now. Not over Microsoft Graph, which goes by the header.
   */
  readonly onlyTo?: readonly string[] | undefined;
  /**
   * Hears the dialogue with the server, line by line, with everything secret and the message itself replaced. Lines that stand for
   * a part of the message say how many bytes it has, so they also tell how far a large one is.
   */
  readonly transcript?: TranscriptListener | undefined;
}

/**
 * Delivers messages. Sessions, guards and retry all implement it, so they stack. Disposing it closes what it
 * holds, after what is in flight.
 */
export interface MailSender extends AsyncDisposable {
  /** @throws MailError for anything but a message the server took. */
  send(message: OutgoingMessage, options?: SendOptions): Promise<SendReceipt>;
}
