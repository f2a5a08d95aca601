import type { Clock, MailSender } from '@flowpost/core';

/** Connections whose sessions and tokens are kept when nobody uses them. */
const mostIdle = 500;
/** A sender that is made anew knows nothing of the messages its predecessor sent in the last minute, which count against limits. */
const keptMs = 60_000;

interface Held {
  readonly sender: MailSender;
  readonly variable: string | undefined;
  /** Who has it at the moment. */
  users: number;
  /** Since when nobody has, in Unix milliseconds. */
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
   * @param create makes it when there is none for the key.
   */
  lend(key: string, variable: string | undefined, create: () => MailSender): MailSender {
    const one = this.#held.get(key) ?? { sender: create(), variable, users: 0, idleSince: 0 };
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
        one.idleSince = this.#clock.now();
        // Another one may have its place by now.
        if (this.#held.get(key) === one) this.#putLast(key, one);
      },
    };
  }

  #putLast(key: string, one: Held): void {
    this.#held.delete(key);
    this.#held.set(key, one);
  }

  #makeRoom(): void {
    if (this.#held.size <= mostIdle) return;
    for (const one of this.#held.values()) {
      if (one.users > 0) continue;
      if (this.#clock.now() - one.idleSince >= keptMs) void this.close((other) => other === one);
      return;
    }
  }

  /** Closes senders, whoever has them: each waits for what is in flight. */
  async close(which: (one: Pick<Held, 'variable'>) => boolean): Promise<void> {
    const closing = [...this.#held].filter(([, one]) => which(one));
    for (const [key] of closing) this.#held.delete(key);
    await Promise.all(closing.map(([, { sender }]) => sender[Symbol.asyncDispose]()));
  }
}
