import type { SecretText, StoredTokens } from '@flowpost/core';

/** What came of asking, and how long not to ask again. */
export interface Failures {
  readonly count: number;
  readonly delay: number;
  readonly until: number;
  readonly error: unknown;
}

/** A valid access token, as stored. */
export type ValidTokens = StoredTokens & Required<Pick<StoredTokens, 'accessToken'>>;

/** Of one credential; each is another secret or scope. */
export const mostVariants = 100;

/** A token is replaced this long before it expires, so that it does not expire on the way. */
const expiryMarginMs = 300_000;

/** Whether a token is still good at all. */
export function isUnexpired(tokens: StoredTokens | undefined, now: number): tokens is ValidTokens {
  return tokens?.accessToken !== undefined && now < (tokens.expiresAt ?? Number.POSITIVE_INFINITY);
}

/** Whether a token is good for long enough not to be replaced. */
export function isValid(tokens: StoredTokens | undefined, now: number): tokens is ValidTokens {
  if (!isUnexpired(tokens, now)) return false;
  const { expiresAt, obtainedAt } = tokens;
  if (expiresAt === undefined) return true;
  // Never more than half the lifetime, or a short-lived token would count as expired from the start.
  const lifetime = expiresAt - (obtainedAt ?? expiresAt - 2 * expiryMarginMs);
  return now < expiresAt - Math.min(expiryMarginMs, lifetime / 2);
}

/** What stays when the access token is of no use. */
export const withoutAccess = ({
  refreshToken,
  variant,
}: {
  readonly refreshToken?: SecretText | undefined;
  readonly variant?: string | undefined;
}): StoredTokens => ({
  ...(refreshToken !== undefined && { refreshToken }),
  ...(variant !== undefined && { variant }),
});

/** A token that is being got, for everybody who wants the same. */
export interface Asking {
  readonly tokens: Promise<ValidTokens>;
  /** How many wait for it. */
  waiting: number;
  /** Aborted when nobody does any more. */
  readonly nobody: AbortController;
  /** Whether the issuer was asked, so that what it answers must not be lost. */
  hasAsked: boolean;
}

/** What is known of one credential, beside what the store holds. */
export class Entry {
  /** Everybody who asks for the same variant while a token is being got waits for the same one. */
  readonly pending = new Map<string | undefined, Asking>();
  readonly failures = new Map<string | undefined, Failures>();
  /** The last token of each variant from here: a store keeps one, and two variants in use at once would take each other's place. */
  readonly #own = new Map<string | undefined, ValidTokens>();
  /** Access tokens that a server refused: of several in use at once each may be. */
  readonly refused = new Set<string>();
  /**
   * Newer than the store, because writing failed, as far as is known: it may have been written all the same. The only working refresh
   * token may be among them. `ours` are the refresh tokens that the store may hold as long as nobody else has gone on from there.
   */
  unsaved: { readonly tokens: StoredTokens; readonly ours: ReadonlySet<string | undefined> } | undefined;
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

  /** Keeps a token that was got for a variant. */
  keepOwn(variant: string | undefined, tokens: ValidTokens): void {
    if (this.#own.size > mostVariants) this.#own.clear();
    this.#own.set(variant, tokens);
    // Where it is the same one again, its issuer stands by it.
    this.refused.delete(tokens.accessToken.reveal());
  }

  /** The token of a variant that was got here, unless a server refused it. */
  ownOf(variant: string | undefined): ValidTokens | undefined {
    return this.#own.get(variant);
  }

  /** An access token that a server refused is not given out any more. */
  refuse(accessToken: string): void {
    this.refused.add(accessToken);
    const [oldest = accessToken] = this.refused;
    if (this.refused.size > mostVariants) this.refused.delete(oldest);
    for (const [variant, own] of this.#own)
      if (own.accessToken.reveal() === accessToken) this.#own.delete(variant);
  }

  /** Whether nothing is lost but how long to wait after a failure. */
  get isIdle(): boolean {
    return this.#busy === 0 && this.pending.size === 0 && this.unsaved === undefined;
  }
}
