import type { Clock, Connection, MailSender } from '@flowpost/core';
import { connectionFingerprint, connectionTarget } from '@flowpost/transport';

/** Connections whose sessions and tokens are kept when nobody uses them. */
const mostIdle = 500;
/** What a limit of messages counts within, in milliseconds: a sender that is made anew knows nothing of what went before. */
const limitMs = 60_000;

interface Held {
  readonly sender: MailSender;
  readonly variable: string | undefined;
  readonly isLimited: boolean;
  /** Who has it at the moment. */
  users: number;
  /** Since when nobody has, on the monotonic clock. */
  idleSince: number;
}

/** The senders of a scope, one for each connection, lent to whoever sends over it. Those that nobody has used for longest make room. */
export class HeldSenders {
  /** What was lent or came back last stands last. */
  readonly #held = new Map<string, Held>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Lends a sender, as long as it is not disposed.
   *
   * @param create makes it when there is none for this connection and variable.
   */
  lend(connection: Connection, variable: string | undefined, create: () => MailSender): MailSender {
    const key = `${connectionFingerprint(connection)} ${variable ?? ''}`;
    const one = this.#held.get(key) ?? this.#hold(create(), connection, variable);
    one.users++;
    this.#putLast(key, one);
    this.#makeRoom();
    let isBack = false;
    return {
      send: (message, options) => one.sender.send(message, options),
      [Symbol.asyncDispose]: async () => {
        if (isBack) return;
        isBack = true;
        one.users--;
        one.idleSince = this.#clock.monotonic();
        // Another one may have its place by now.
        if (this.#held.get(key) === one) this.#putLast(key, one);
      },
    };
  }

  #hold(sender: MailSender, connection: Connection, variable: string | undefined): Held {
    const isLimited = connectionTarget(connection).limits.messagesPerMinute !== undefined;
    return { sender, variable, isLimited, users: 0, idleSince: 0 };
  }

  #putLast(key: string, one: Held): void {
    this.#held.delete(key);
    this.#held.set(key, one);
  }

  #makeRoom(): void {
    if (this.#held.size <= mostIdle) return;
    const now = this.#clock.monotonic();
    for (const [key, { sender, users, isLimited, idleSince }] of this.#held) {
      if (users > 0 || (isLimited && now - idleSince < limitMs)) continue;
      this.#held.delete(key);
      void sender[Symbol.asyncDispose]();
      if (this.#held.size <= mostIdle) return;
    }
  }

  /** Closes senders, whoever has them: each waits for what is in flight. */
  async close(which: (one: Pick<Held, 'variable'>) => boolean): Promise<void> {
    const closing = [...this.#held].filter(([, one]) => which(one));
    for (const [key] of closing) this.#held.delete(key);
    await Promise.all(closing.map(([, { sender }]) => sender[Symbol.asyncDispose]()));
  }
}
