import {
  MailError,
  ManualClock,
  MemoryLogger,
  MemoryTokenStore,
  SecretText,
  type StoredTokens,
  type TokenStore,
  tokensInUse,
} from '@flowpost/core';
import { OAuthServer } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createAuthProvider } from './create-auth-provider.ts';
import { type FetchToken, TokenCache } from './token-cache.ts';
import type { IssuedToken } from './token-endpoint.ts';

const clockNow = 1_000_000_000;
const token = (text: string, more: Partial<IssuedToken> = {}): IssuedToken => ({
  accessToken: new SecretText(text),
  obtainedAt: clockNow,
  expiresAt: clockNow + 3_600_000,
  ...more,
});

/** An issuer that rotates: each refresh token works once. */
function rotatingIssuer() {
  let current = 'R0';
  let count = 0;
  const used: string[] = [];
  const fetch: FetchToken = async (stored, onRequest) => {
    onRequest();
    const given = stored?.refreshToken?.reveal() ?? 'R0';
    used.push(given);
    await new Promise(setImmediate);
    if (given !== current) throw new MailError('TOKEN_GRANT_REFUSED', 'already used', { phase: 'token' });
    current = `R${++count}`;
    return token(`T${count}`, { refreshToken: new SecretText(current) });
  };
  return { fetch, used };
}

const name = { key: 'k' };

describe('a rotated refresh token', () => {
  it('outlives a store that fails, and is written when it works again', async () => {
    const store = new MemoryTokenStore();
    const logger = new MemoryLogger();
    const { fetch, used } = rotatingIssuer();
    const cache = new TokenCache(store, { logger, clock: new ManualClock(clockNow) });
    const { set } = store;
    store.set = async () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    const first = await cache.get(name, fetch);
    expect(first.accessToken.reveal()).toBe('T1');
    expect(logger.entries).toMatchObject([{ level: 'error', fields: { code: 'ENOSPC' } }]);
    cache.invalidate(name, 'T1');
    store.set = set;
    expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T2');
    expect([used, (await store.get('k'))?.refreshToken?.reveal()]).toEqual([['R0', 'R1'], 'R2']);
  });

  it('outlives a store that loses what it had', async () => {
    const store = new MemoryTokenStore();
    const { fetch, used } = rotatingIssuer();
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    await cache.get(name, fetch);
    cache.invalidate(name, 'T1');
    const { set } = store;
    store.set = async () => Promise.reject(new Error('gone'));
    await cache.get(name, fetch);
    store.get = async () => undefined;
    store.set = set;
    cache.invalidate(name, 'T2');
    expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T3');
    expect(used).toEqual(['R0', 'R1', 'R2']);
  });

  it('that came after a stale one, in an answer of no use, is the one to go on with', async () => {
    const store = new MemoryTokenStore();
    await store.set('k', { refreshToken: new SecretText('R1') });
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    const used: (string | undefined)[] = [];
    const fetch: FetchToken = async (stored, _, onRotated) => {
      used.push(stored?.refreshToken?.reveal());
      if (used.length > 2) return token('T');
      if (used.length === 1) {
        await store.set('k', { refreshToken: new SecretText('R2') });
        throw new MailError('TOKEN_GRANT_REFUSED', 'stale', { phase: 'token' });
      }
      onRotated(new SecretText('R3'));
      store.set = async () => Promise.reject(new Error('full'));
      throw new MailError('TOKEN_RESPONSE_INVALID', 'of no use', { phase: 'token' });
    };
    await expect(cache.get(name, fetch)).rejects.toMatchObject({ code: 'TOKEN_RESPONSE_INVALID' });
    await cache.get(name, fetch);
    expect(used).toEqual(['R1', 'R2', 'R3']);
  });

  it.each([true, false])(
    'that was written although the store said no is not written over a newer one, still good: %s',
    async (isGood) => {
      const clock = new ManualClock(clockNow);
      const { fetch, used } = rotatingIssuer();
      const get: FetchToken = async (...given) => ({
        ...(await fetch(...given)),
        expiresAt: clock.now() + 3_600_000,
      });
      const store = new MemoryTokenStore();
      const doubtful = Object.assign(Object.create(store), {
        get: (key: string) => store.get(key),
        async set(key: string, tokens: StoredTokens) {
          await store.set(key, tokens);
          throw new Error('the connection was lost after the commit');
        },
      });
      const one = new TokenCache(doubtful, { clock });
      const other = new TokenCache(store, { clock });
      await one.get(name, get);
      other.invalidate(name, 'T1');
      await other.get(name, get);
      if (!isGood) clock.advance(3_590_000);
      await one.get(name, get);
      expect(used.at(-1)).toBe(isGood ? 'R1' : 'R2');
      // Nobody has been refused, and what is stored works.
      clock.advance(3_600_000);
      await other.get(name, get);
    },
  );

  it('outlives a store that fails without a reason', async () => {
    const { fetch, used } = rotatingIssuer();
    const store = Object.assign(new MemoryTokenStore(), { set: () => Promise.reject(null) });
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    for (let login = 0; login < 2; login++)
      expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T1');
    expect(used).toEqual(['R0']);
  });

  it('is not touched by a refusal, and neither waits for whoever holds the lock of the store', async () => {
    const store = new MemoryTokenStore();
    const { fetch } = rotatingIssuer();
    const exclusively = <Value>(_: string, work: () => Promise<Value>) => lock.promise.then(work);
    const cache = new TokenCache(Object.assign(store, { exclusively }), { clock: new ManualClock(clockNow) });
    const lock = Promise.withResolvers<void>();
    const first = cache.get(name, fetch);
    lock.resolve();
    await first;
    cache.invalidate(name, 'T1');
    expect(await store.get('k')).toMatchObject({ refreshToken: new SecretText('R1') });
    expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T2');
  });

  it('a refused access token is not given to who asked for one before the refusal', async () => {
    const store = new MemoryTokenStore();
    const { fetch, used } = rotatingIssuer();
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    await cache.get(name, fetch);
    const found = Promise.withResolvers<void>();
    const { get } = store;
    store.get = async (key) => {
      const tokens = await get.call(store, key);
      await found.promise;
      return tokens;
    };
    const before = cache.get(name, fetch);
    cache.invalidate(name, 'T1');
    const after = cache.get(name, fetch);
    found.resolve();
    const both = await Promise.all([before, after]);
    expect(both.map(({ accessToken }) => accessToken.reveal())).toEqual(['T2', 'T2']);
    expect(used).toEqual(['R0', 'R1']);
  });

  it('a refused access token is not used again where the store cannot be locked', async () => {
    const store = new MemoryTokenStore();
    const locked = Object.assign(store, { exclusively: () => Promise.reject(new Error('read only')) });
    const { fetch } = rotatingIssuer();
    const cache = new TokenCache(locked, { clock: new ManualClock(clockNow) });
    await cache.get(name, fetch);
    cache.invalidate(name, 'T1');
    expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T2');
  });

  it('is not asked for beside somebody else who asks, and the one there is used as long as it is good', async () => {
    const store = new MemoryTokenStore();
    const busy = Object.assign(store, { exclusively: () => Promise.reject(tokensInUse()) });
    const { fetch, used } = rotatingIssuer();
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(busy, { clock });
    await expect(cache.get(name, fetch)).rejects.toMatchObject({
      ...{ code: 'TOKEN_STORE_FAILED', retryable: true, details: { reason: 'in-use' } },
    });
    await store.set(name.key, token('T0', { expiresAt: clockNow + 3_600_000 }));
    await clock.advance(3_500_000);
    expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T0');
    expect(used).toEqual([]);
  });

  it('that is refused while somebody is being given it is not given to him', async () => {
    const store: TokenStore = new MemoryTokenStore();
    const refused = Promise.withResolvers<void>();
    let locks = 0;
    store.exclusively = async (key, work) => {
      const isFirst = ++locks === 1;
      // Another process got one meanwhile.
      if (isFirst) await store.set(key, token('T1'));
      const value = await work();
      if (isFirst) await refused.promise;
      return value;
    };
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    const getting = cache.get(name, async () => token('T2'));
    await expect.poll(() => locks).toBe(1);
    await new Promise(setImmediate);
    cache.invalidate(name, 'T1');
    refused.resolve();
    expect((await getting).accessToken.reveal()).toBe('T2');
  });

  it('two secrets that are in use at once have a token each', async () => {
    const { fetch, used } = rotatingIssuer();
    const cache = new TokenCache(new MemoryTokenStore(), { clock: new ManualClock(clockNow) });
    const [old, renewed] = ['old', 'new'].map((variant) => ({ ...name, variant }));
    const both = async () => {
      const tokens = [await cache.get(old ?? name, fetch), await cache.get(renewed ?? name, fetch)];
      return tokens.map(({ accessToken }) => accessToken.reveal());
    };
    for (let time = 0; time < 3; time++) expect(await both()).toEqual(['T1', 'T2']);
    cache.invalidate(old ?? name, 'T1');
    for (let time = 0; time < 3; time++) expect(await both()).toEqual(['T3', 'T2']);
    // Both at once, as when somebody's sign-ins are revoked.
    cache.invalidate(renewed ?? name, 'T2');
    cache.invalidate(old ?? name, 'T3');
    for (let time = 0; time < 3; time++) expect(await both()).toEqual(['T4', 'T5']);
    expect(used).toEqual(['R0', 'R1', 'R2', 'R3', 'R4']);
  });

  it('goes with an access token that its issuer gives again', async () => {
    let asked = 0;
    const cache = new TokenCache(new MemoryTokenStore(), { clock: new ManualClock(clockNow) });
    const fetch: FetchToken = async () => {
      asked++;
      return token('T', { refreshToken: new SecretText('R') });
    };
    await cache.get(name, fetch);
    cache.invalidate(name, 'T');
    for (let count = 0; count < 5; count++) await cache.get(name, fetch);
    expect(asked).toBe(2);
  });

  it('is kept from an answer that is of no use otherwise', async () => {
    const store = new MemoryTokenStore();
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    const broken: FetchToken = async (_, onRequest, onRotated) => {
      onRequest();
      onRotated(new SecretText('R1'));
      throw new MailError('TOKEN_RESPONSE_INVALID', 'odd', { phase: 'token' });
    };
    await expect(cache.get(name, broken)).rejects.toMatchObject({ code: 'TOKEN_RESPONSE_INVALID' });
    expect((await store.get('k'))?.refreshToken?.reveal()).toBe('R1');
  });

  it('is kept together with an access token that is still good', async () => {
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(new MemoryTokenStore(), { clock });
    await cache.get(name, async () => token('T', { refreshToken: new SecretText('R') }));
    const broken: FetchToken = async (_, onRequest, onRotated) => {
      onRequest();
      onRotated(new SecretText('R1'));
      throw new MailError('TOKEN_RESPONSE_INVALID', 'odd', { phase: 'token' });
    };
    clock.advance(3_400_000);
    for (let count = 0; count < 3; count++)
      expect(await cache.get(name, broken)).toMatchObject({ accessToken: new SecretText('T') });
  });

  it('that another process rotated is found in the store', async () => {
    const store = new MemoryTokenStore();
    const { fetch } = rotatingIssuer();
    const here = new TokenCache(store, { clock: new ManualClock(clockNow) });
    await here.get(name, fetch);
    here.invalidate(name, 'T1');
    const fetchWhileAnother: FetchToken = async (stored, onRequest, onRotated) => {
      if (stored?.refreshToken?.reveal() === 'R1') {
        const newer = await fetch(stored, onRequest, onRotated);
        await store.set('k', { refreshToken: newer.refreshToken as SecretText });
      }
      return fetch(stored, onRequest, onRotated);
    };
    expect((await here.get(name, fetchWhileAnother)).accessToken.reveal()).toBe('T3');
  });

  it('that another process rotated stays the newest, where the issuer gives no other', async () => {
    const store = new MemoryTokenStore();
    await store.set('k', { refreshToken: new SecretText('R1') });
    const asked: string[] = [];
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    await cache.get(name, async (stored) => {
      const refreshToken = stored?.refreshToken?.reveal() ?? '';
      asked.push(refreshToken);
      if (refreshToken !== 'R1') return { accessToken: new SecretText('T'), obtainedAt: clockNow };
      await store.set('k', { refreshToken: new SecretText('R2') });
      throw new MailError('TOKEN_GRANT_REFUSED', 'It was used before.', { phase: 'token' });
    });
    expect([asked, (await store.get('k'))?.refreshToken?.reveal()]).toEqual([['R1', 'R2'], 'R2']);
  });

  it('is shared by providers over one store', async () => {
    await using server = await OAuthServer.start({ secrets: { app: 'secret', 'app-2': 'x' } });
    const tokenStore = new MemoryTokenStore();
    const refreshToken = await server.issueRefreshToken('app', 'me');
    const provide = (clientSecret: string) =>
      createAuthProvider(
        {
          kind: 'oauth2-refresh',
          user: 'me',
          clientId: 'app',
          clientSecret: new SecretText(clientSecret),
          refreshToken: new SecretText(refreshToken),
          tokenEndpoint: server.tokenEndpoint,
        },
        { tokenStore },
      );
    await Promise.all([provide('secret').login(), provide('secret').login()]);
    expect([server.requests.length, server.refusals]).toEqual([1, []]);
    // Another secret is another access token, but the refresh token goes on from where it was.
    await expect(provide('wrong').login()).rejects.toMatchObject({ code: 'TOKEN_CLIENT_REFUSED' });
    const sent = server.bodies.map((body) => new URLSearchParams(body).get('refresh_token'));
    expect(sent[1]).not.toBe(refreshToken);
  });
});

describe('back-off', () => {
  const failing =
    (error: MailError): FetchToken =>
    async (_, onRequest) => {
      onRequest();
      throw error;
    };

  it('lasts an hour at most, whatever the issuer says, and no longer than it should when the clock is set back', async () => {
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(new MemoryTokenStore(), { clock });
    const busy = new MailError('TOKEN_ENDPOINT_BUSY', 'x', {
      phase: 'token',
      details: { retryAfterMs: 1e12 },
    });
    await expect(cache.get(name, failing(busy))).rejects.toMatchObject({ code: busy.code, cause: busy });
    clock.advance(1_800_000);
    // Each who asks gets an error of his own, which says how long it is from now.
    await expect(cache.get(name, async () => token('T'))).rejects.toMatchObject({
      ...{ code: busy.code, details: { retryAfterMs: 1_800_000 } },
    });
    clock.advance(1_800_000);
    expect(
      (
        await cache.get(name, async () => token('T', { expiresAt: clock.now() + 3_600_000 }))
      ).accessToken.reveal(),
    ).toBe('T');
    const other = { key: 'other' };
    await expect(cache.get(other, failing(busy))).rejects.toMatchObject({ code: busy.code, cause: busy });
    clock.advance(-86_400_000);
    await expect(cache.get(other, async () => token('T'))).resolves.toBeDefined();
  });

  it('ends when nobody waits for it any more, without asking; and goes on for whoever comes', async () => {
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(new MemoryTokenStore(), { clock });
    const busy = new MailError('TOKEN_ENDPOINT_BUSY', 'x', { phase: 'token' });
    await expect(cache.get(name, failing(busy))).rejects.toMatchObject({ code: busy.code, cause: busy });
    let asked = 0;
    const fetch: FetchToken = async () => {
      asked++;
      return token('T');
    };
    const leaving = new AbortController();
    const left = [cache.get(name, fetch, leaving.signal), cache.get(name, fetch, leaving.signal)];
    const all = Promise.allSettled(left);
    await new Promise(setImmediate);
    leaving.abort(new Error('enough'));
    expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    const next = cache.get(name, fetch);
    await new Promise(setImmediate);
    expect(asked).toBe(0);
    clock.advance(1_000);
    expect((await next).accessToken.reveal()).toBe('T');
    expect(asked).toBe(1);
  });

  it('does not follow a failure that asked nobody', async () => {
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(new MemoryTokenStore(), { clock });
    const expired = new MailError('TOKEN_EXPIRED', 'x', { phase: 'token' });
    for (let round = 0; round < 5; round++) {
      await expect(cache.get(name, () => Promise.reject(expired))).rejects.toMatchObject({
        code: expired.code,
        cause: expired,
      });
    }
  });
});

it('an aborted signal asks nobody', async () => {
  let asked = 0;
  const cache = new TokenCache(new MemoryTokenStore());
  const fetch: FetchToken = async () => token(`T${++asked}`);
  await expect(cache.get(name, fetch, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  expect(asked).toBe(0);
});

it('forgets credentials that nobody asks for any more, and none that is being got', async () => {
  const cache = new TokenCache(new MemoryTokenStore(), { clock: new ManualClock(clockNow) });
  const slow = Promise.withResolvers<IssuedToken>();
  let asked = 0;
  const first = cache.get({ key: 'slow' }, async () => {
    asked++;
    return slow.promise;
  });
  const refused: FetchToken = async (_, onRequest) => {
    onRequest();
    throw new MailError('TOKEN_GRANT_REFUSED', 'no', { phase: 'token' });
  };
  for (let number = 0; number < 3_000; number++) {
    await expect(cache.get({ key: `k${number}` }, refused)).rejects.toThrow('no');
  }
  // Forgotten, so there is no wait after its failure.
  await expect(cache.get({ key: 'k0' }, refused)).rejects.toThrow('no');
  const second = cache.get({ key: 'slow' }, async () => {
    asked++;
    return token('other');
  });
  slow.resolve(token('T'));
  expect((await Promise.all([first, second])).map(({ accessToken }) => accessToken.reveal())).toEqual([
    'T',
    'T',
  ]);
  expect(asked).toBe(1);
});

describe('a token that ends soon', () => {
  it('is used until it has ended when there is no other to be had', async () => {
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(new MemoryTokenStore(), { clock });
    await cache.get(name, async () => token('T'));
    const busy = new MailError('TOKEN_ENDPOINT_BUSY', 'x', { phase: 'token' });
    let asked = 0;
    const failing: FetchToken = async (_, onRequest) => {
      onRequest();
      asked++;
      throw busy;
    };
    clock.advance(3_400_000);
    // The second one does not even wait for the next time the issuer may be asked.
    for (let round = 0; round < 2; round++)
      expect((await cache.get(name, failing)).accessToken.reveal()).toBe('T');
    expect(asked).toBe(1);
    clock.advance(200_000);
    await expect(cache.get(name, failing)).rejects.toMatchObject({ code: busy.code, cause: busy });
  });

  it('is replaced as soon as there is another one', async () => {
    const clock = new ManualClock(clockNow);
    const cache = new TokenCache(new MemoryTokenStore(), { clock });
    await cache.get(name, async () => token('T'));
    clock.advance(3_400_000);
    const next = await cache.get(name, async () => token('U', { expiresAt: clock.now() + 3_600_000 }));
    expect(next.accessToken.reveal()).toBe('U');
  });
});

it('the failure of one variant is not that of another', async () => {
  // Time stands still: who waits for a back-off waits for ever.
  const cache = new TokenCache(new MemoryTokenStore(), { clock: new ManualClock(clockNow) });
  const wrong: FetchToken = async (_, onRequest) => {
    onRequest();
    throw new MailError('TOKEN_CLIENT_REFUSED', 'no', { phase: 'token' });
  };
  const [first, second] = await Promise.allSettled([
    cache.get({ key: 'k', variant: 'wrong' }, wrong),
    cache.get({ key: 'k', variant: 'right' }, async () => token('T')),
  ]);
  expect([first.status, second.status]).toEqual(['rejected', 'fulfilled']);
});

it('a variant whose issuer may not be asked yet keeps no other one waiting', async () => {
  const clock = new ManualClock(clockNow);
  const cache = new TokenCache(new MemoryTokenStore(), { clock });
  const wrong: FetchToken = async (_, onRequest) => {
    onRequest();
    throw new MailError('TOKEN_CLIENT_REFUSED', 'wrong secret', { phase: 'token' });
  };
  const a = { key: 'k', variant: 'a' };
  await expect(cache.get(a, wrong)).rejects.toMatchObject({ code: 'TOKEN_CLIENT_REFUSED' });
  const second = cache.get(a, async () => token('late'));
  const other = await cache.get({ key: 'k', variant: 'b' }, async () => token('good'));
  expect(other.accessToken.reveal()).toBe('good');
  await clock.advance(1_000);
  expect((await second).accessToken.reveal()).toBe('late');
});

describe('a store that fails beside', () => {
  it('a lock that cannot be given back is no failure of what was done under it', async () => {
    const store = Object.assign(new MemoryTokenStore(), {
      async exclusively<Value>(_: string, work: () => Promise<Value>): Promise<Value> {
        await work();
        throw new Error('not unlocked');
      },
    });
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    expect((await cache.get(name, rotatingIssuer().fetch)).accessToken.reveal()).toBe('T1');
  });

  it("an issuer's refusal is told though the store cannot be read any more", async () => {
    const store = new MemoryTokenStore();
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    for (const code of ['TOKEN_CLIENT_REFUSED', 'TOKEN_GRANT_REFUSED'] as const) {
      const { get } = store;
      const fetch: FetchToken = async () => {
        store.get = async () => Promise.reject(new Error('down'));
        throw new MailError(code, 'refused', { phase: 'token' });
      };
      await expect(cache.get(name, fetch)).rejects.toMatchObject({ code, retryable: false });
      store.get = get;
    }
  });

  it('whoever waited for a lock and has gone asks nobody, and is not waited for', async () => {
    const free = Promise.withResolvers<void>();
    const store = Object.assign(new MemoryTokenStore(), {
      async exclusively<Value>(_: string, work: () => Promise<Value>): Promise<Value> {
        await free.promise;
        return work();
      },
    });
    const cache = new TokenCache(store, { clock: new ManualClock(clockNow) });
    const { fetch, used } = rotatingIssuer();
    const leaving = new AbortController();
    const asked = cache.get(name, fetch, leaving.signal);
    leaving.abort(new Error('gone'));
    await expect(asked).rejects.toThrow('gone');
    await cache.settled();
    free.resolve();
    expect((await cache.get(name, fetch)).accessToken.reveal()).toBe('T1');
    expect(used).toEqual(['R0']);
  });
});
