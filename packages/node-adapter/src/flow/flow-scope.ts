import type { Connection, MailSender } from '@flowpost/core';
import { connectionFingerprint, createSender, type SenderOptions } from '@flowpost/transport';

/** How long sessions live: they belong to a scope, and close with it. */
export interface FlowScope extends AsyncDisposable {
  /** The sender for a connection; the same for two connections that are alike in everything. */
  sender(connection: Connection): MailSender;
}

/**
 * A scope for the nodes of one run, or of a whole deployment where sessions should outlive runs.
 *
 * @example await using scope = createFlowScope();
 */
export function createFlowScope(options: SenderOptions = {}): FlowScope {
  const senders = new Map<string, MailSender>();
  return {
    sender(connection) {
      const fingerprint = connectionFingerprint(connection);
      let sender = senders.get(fingerprint);
      if (!sender) {
        sender = createSender(connection, options);
        senders.set(fingerprint, sender);
      }
      return sender;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...senders.values()].map((sender) => sender[Symbol.asyncDispose]()));
    },
  };
}
