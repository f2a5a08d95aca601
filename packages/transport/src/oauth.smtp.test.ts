import { type ConnectionInput, MemoryLogger, MemoryTokenStore } from '@flowpost/core';
import { OAuthServer, SmtpInbox } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from './create-sender.ts';

const refreshCredential = { kind: 'oauth2-refresh', user: 'me', clientId: 'app', refreshToken: 'r' } as const;

const message = { from: 'me@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' };
const secret = 'client-secret-value';

/** An inbox that takes whatever token is in the box at the moment. */
async function inboxTaking(tokens: Record<string, string>, tokenRefusal: 'direct' | 'challenge' = 'direct') {
  return SmtpInbox.start({ tokens, tokenRefusal });
}

const connectionTo = (inbox: SmtpInbox, server: OAuthServer): ConnectionInput => ({
  host: inbox.host,
  port: inbox.port,
  auth: {
    kind: 'oauth2-client-credentials',
    user: 'me@x.org',
    tokenEndpoint: server.tokenEndpoint,
    clientId: 'app',
    clientSecret: secret,
  },
});

describe('sending with a token', () => {
  it('gets one token and one login for many messages', async () => {
    await using server = await OAuthServer.start({ secrets: { app: secret } });
    const tokenStore = new MemoryTokenStore();
    const tokens: Record<string, string> = {};
    // The server learns the token the way real ones do: it checks what the issuer signed. Here, what was issued.
    tokenStore.set = async (key, stored) => {
      tokens['me@x.org'] = stored.accessToken?.reveal() ?? '';
      await MemoryTokenStore.prototype.set.call(tokenStore, key, stored);
    };
    await using inbox = await inboxTaking(tokens);
    await using sender = createSender(connectionTo(inbox, server), { auth: { tokenStore } });
    for (let index = 0; index < 5; index++) await sender.send(message);
    expect([server.requests.length, inbox.logins, inbox.messages.length]).toEqual([1, ['me@x.org'], 5]);
    expect(inbox.authAttempts).toEqual(['XOAUTH2']);
  });

  it.each(['direct', 'challenge'] as const)(
    'a token the server refuses (%s) is replaced once',
    async (refusal) => {
      await using server = await OAuthServer.start({ secrets: { app: secret } });
      const tokens: Record<string, string> = {};
      const tokenStore = new MemoryTokenStore();
      let issued = 0;
      tokenStore.set = async (key, stored) => {
        // The first token is one the mail server does not take.
        if (stored.accessToken && ++issued === 2) tokens['me@x.org'] = stored.accessToken.reveal();
        await MemoryTokenStore.prototype.set.call(tokenStore, key, stored);
      };
      await using inbox = await inboxTaking(tokens, refusal);
      await using sender = createSender(connectionTo(inbox, server), { auth: { tokenStore } });
      expect((await sender.send(message)).status).toBe('sent');
      expect([server.requests.length, inbox.authAttempts.length, inbox.messages.length]).toEqual([2, 2, 1]);
    },
  );

  it.each(['direct', 'challenge'] as const)(
    'a server that refuses every token (%s) is asked twice and no more',
    async (refusal) => {
      await using server = await OAuthServer.start({ secrets: { app: secret } });
      await using inbox = await inboxTaking({ 'me@x.org': 'never issued' }, refusal);
      const logger = new MemoryLogger();
      await using sender = createSender(connectionTo(inbox, server), { logger });
      const error = await sender.send(message).catch((thrown) => thrown);
      expect(error).toMatchObject({
        code: 'AUTH_REFUSED',
        phase: 'auth',
        retryable: false,
        details: { mechanism: 'XOAUTH2' },
      });
      expect([server.requests.length, inbox.authAttempts.length, inbox.messages.length]).toEqual([2, 2, 0]);
      expect(JSON.stringify([error, logger.entries])).not.toMatch(/eyJ|client-secret/);
    },
  );

  it('a token that cannot be had is reported before any connection is made', async () => {
    await using server = await OAuthServer.start({ secrets: { app: 'another secret' } });
    await using inbox = await inboxTaking({});
    await using sender = createSender(connectionTo(inbox, server));
    await expect(sender.send(message)).rejects.toMatchObject({
      code: 'TOKEN_CLIENT_REFUSED',
      phase: 'token',
    });
    expect(inbox.connections).toBe(0);
  });
});

it.each([
  [{ service: 'Gmail' }, 'https://oauth2.googleapis.com/token'],
  [{ host: 'smtp.GoogleMail.com.' }, 'https://oauth2.googleapis.com/token'],
  [{ service: 'Outlook365' }, 'https://login.microsoftonline.com/common/oauth2/v2.0/token'],
  [{ host: 'smtp.office365.us' }, 'https://login.microsoftonline.us/common/oauth2/v2.0/token'],
  [
    { kind: 'microsoft365', delivery: 'graph', tenantId: 'contoso.example', objectId: 'U' },
    'https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token',
  ],
  [
    { kind: 'microsoft365', delivery: 'smtp', tenantId: 'contoso.example', host: 'smtp.office365.us' },
    'https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token',
  ],
])('a refresh token for %j is taken to %s', async (where, endpoint) => {
  const asked: string[] = [];
  const fetch: typeof globalThis.fetch = async (url) => {
    asked.push(String(url));
    return new Response('{"error":"invalid_grant"}', { status: 400 });
  };
  await using sender = createSender({ ...where, auth: refreshCredential } as ConnectionInput, {
    auth: { fetch },
  });
  await expect(sender.send(message)).rejects.toMatchObject({ code: 'TOKEN_GRANT_REFUSED' });
  expect(asked).toEqual([endpoint]);
});

it.each(['smtp.x.org', 'smtp.mail.yahoo.com'])('a refresh token for %s is taken nowhere', async (host) => {
  await using sender = createSender({ host, auth: refreshCredential });
  await expect(sender.send(message)).rejects.toMatchObject({
    code: 'CREDENTIAL_INCOMPLETE',
    details: { missing: ['tokenEndpoint'] },
  });
});
