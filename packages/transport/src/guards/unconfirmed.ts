import type { MailErrorJson, SendReceipt } from '@flowpost/core';

/**
 * To whom a message may have been delivered, over several attempts. Who is in doubt stays so until a receipt says that he has
 * it; that he was refused later says nothing of what he has from before.
 */
export class Unconfirmed {
  readonly #addresses = new Set<string>();
  /** An attempt in doubt did not say whom it was about. */
  #isForAll = false;

  /** @param doubt where there was doubt before. */
  constructor(doubt?: Pick<MailErrorJson, 'details'>) {
    if (doubt) this.add(doubt);
  }

  /** An attempt is in doubt. */
  add({ details }: Pick<MailErrorJson, 'details'>): void {
    const named = details?.unconfirmed;
    if (!Array.isArray(named)) this.#isForAll = true;
    else for (const address of named) this.#addresses.add(String(address));
  }

  /** An attempt has a receipt. */
  resolve({ accepted, rejected }: Pick<SendReceipt, 'accepted' | 'rejected'>): void {
    if (this.#isForAll) for (const { address } of rejected) this.#addresses.add(address);
    this.#isForAll = false;
    for (const address of accepted) this.#addresses.delete(address);
  }

  get any(): boolean {
    return this.#isForAll || this.#addresses.size > 0;
  }

  /** For the doubt: whom it is about; nothing where that is everybody. */
  details(): { readonly unconfirmed?: readonly string[] } {
    return this.#isForAll ? {} : { unconfirmed: [...this.#addresses] };
  }
}
