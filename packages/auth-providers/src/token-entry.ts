import type { StoredTokens } from '@flowpost/core';

/** What came of asking, and how long not to ask again. */
export interface Failures {
  readonly count: number;
  readonly delay: number;
  readonly until: number;
  readonly error: unknown;
}

/** A valid access token, as stored. */
export type ValidTokens = StoredTokens & Required<Pick<StoredTokens, 'accessToken'>>;

/** A token that is being got, for everybody who wants the same. */
export interface Asking {
  readonly tokens: Promise<ValidTokens>;
  /** How many wait for it. */
  waiting: number;
  /** Aborted when nobody does any more. */
  readonly nobody: AbortController;
}

/** What is known of one credential, beside what the store holds. */
export class Entry {
  /** Everybody who asks for the same variant while a token is being got waits for the same one. */
  readonly pending = new Map<string | undefined, Asking>();
  readonly failures = new Map<string | undefined, Failures>();
  /** The last access token that a server refused. */
  refused: string | undefined;
  /** Newer than the store, because writing failed. The only working refresh token may be among them. */
  unsaved: StoredTokens | undefined;
  #busy = 0;
  #last: Promise<unknown> = Promise.resolve();

  /** Runs one piece of work after another, so that nothing is read before and written after somebody else's write. */
  inTurn<Value>(work: () => Promise<Value>): Promise<Value> {
    this.#busy++;
    const result = this.#last.then(work, work).finally(() => {
      this.#busy--;
    });
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Whether nothing is lost but how long to wait after a failure. */
  get isIdle(): boolean {
    return this.#busy === 0 && this.pending.size === 0 && this.unsaved === undefined;
  }
}
