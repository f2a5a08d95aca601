import { type ConnectionInput, type OutgoingMessage, parseConnection } from '@flowpost/core';
import type { ComposedMessage } from '@flowpost/mime-attachments';
import { type ComposerOptions, MessageComposer } from './message-composer.ts';

/**
 * The message a send over this connection would hand to the server, byte for byte, without sending it. A send of the
 * same message with the Message-ID and Date of the preview has the same bytes. A body that streams must be read or
 * destroyed.
 *
 * @throws MailError as a send would before it connects.
 */
export async function previewMessage(
  message: OutgoingMessage,
  connection: ConnectionInput,
  options: ComposerOptions & { readonly signal?: AbortSignal } = {},
): Promise<ComposedMessage> {
  const parsed = parseConnection(connection);
  const isGraph = parsed.kind === 'microsoft365' && parsed.delivery === 'graph';
  return new MessageComposer(parsed, options).compose(message, options.signal, false, isGraph);
}
