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

  /** An attempt has a receipt. */
  resolve({ accepted, rejected }: Pick<SendReceipt, 'accepted' | 'rejected'>): this {
    if (this.#isForAll) for (const { address } of rejected) this.#addresses.set(addressKey(address), address);
    this.#isForAll = false;
    for (const address of accepted) this.#addresses.delete(addressKey(address));
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
