import { addressKey, type MailErrorJson, type SendReceipt, toWireAddress } from '@flowpost/core';

type Doubt = Pick<MailErrorJson, 'details'>;

/**
 * To whom a message may have been delivered, over several attempts. Who is in doubt stays so until a receipt says that he has
 * it; that he was refused later says nothing of what he has from before.
 */
export class Unconfirmed {
  /** In the form they have on the wire, by the one spelling of each. */
  readonly #addresses = new Map<string, string>();
  /** An attempt in doubt did not say whom it was about. */
  #isForAll = false;

  /**
   * An attempt is in doubt.
   *
   * @param among whom it was for, when not for all: a doubt that names nobody is about those.
   */
  add({ details }: Doubt, among?: readonly string[]): this {
    const named = Array.isArray(details?.unconfirmed) ? (details.unconfirmed as string[]) : among;
    if (!named) this.#isForAll = true;
    for (const address of named ?? []) this.#addresses.set(addressKey(address), toWireAddress(address));
    return this;
  }

  /**
   * There is a receipt.
   *
   * @param receipt of all who get the message. Of those in doubt, they stay whom it does not say to have it; whom it does not know gets
   *   no message, as when another mailbox got it in his place.
   */
  resolve({ rejected }: Pick<SendReceipt, 'rejected'>): this {
    const open = rejected
      .map(({ address }) => [addressKey(address), address] as const)
      .filter(([key]) => this.#isForAll || this.#addresses.has(key));
    this.#isForAll = false;
    this.#addresses.clear();
    for (const [key, address] of open) this.#addresses.set(key, address);
    return this;
  }

  get any(): boolean {
    return this.#isForAll || this.#addresses.size > 0;
  }

  /** For a doubt: whom it is about; undefined for everybody. */
  details(): { readonly unconfirmed: readonly string[] | undefined } {
    return { unconfirmed: this.#isForAll ? undefined : [...this.#addresses.values()] };
  }
}
