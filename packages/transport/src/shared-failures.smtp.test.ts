import { MailError } from '@flowpost/core';
import { HttpServer, SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { createSender } from './create-sender.ts';
import { withRetry } from './guards/retry.ts';

const names = ['one', 'two', 'three'];
const messageOf = (name: string) => ({ from: 'a@x.org', to: `${name}@x.org`, subject: name, text: name });

/** What arrived under which id, and what the receipts say. */
const idsOf = (inbox: SmtpInbox): ReadonlyMap<string, string | undefined> =>
  new Map(inbox.messages.map(({ subject = '', messageId }) => [subject, messageId]));

/** A token endpoint that is busy at first. */
const busyAtFirst = () => {
  let isFirst = true;
  return HttpServer.start((_, response) => {
    if (isFirst) response.writeHead(503).end('busy');
    else
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ access_token: 'token', token_type: 'Bearer', expires_in: 3600 }));
    isFirst = false;
  });
};

it('messages that fail of one token endpoint are sent again each as itself', async () => {
  await using issuer = await busyAtFirst();
  await using inbox = await SmtpInbox.start({ tokens: { 'a@x.org': 'token' } });
  const client = { clientId: 'c', clientSecret: 's', scope: 'x', tokenEndpoint: issuer.url('/token') };
  const auth = { kind: 'oauth2-client-credentials' as const, user: 'a@x.org', ...client };
  await using sender = createSender({ host: inbox.host, port: inbox.port, tls: 'none', auth });
  await using retrying = withRetry(sender, { firstDelayMs: 100 });
  const receipts = await Promise.all(
    names.map((name) => {
      const given = name === 'one' ? {} : { messageId: `<own-${name}@x.org>` };
      return retrying.send({ ...messageOf(name), ...given });
    }),
  );
  const [first = ''] = receipts.map(({ messageId }) => messageId);
  const ids = [first, '<own-two@x.org>', '<own-three@x.org>'];
  expect(receipts.map(({ messageId }) => messageId)).toEqual(ids);
  expect(names.map((name) => idsOf(inbox).get(name))).toEqual(ids);
});

it('messages that a server with too many sessions put off are sent again each as itself', async () => {
  let isFirst = true;
  await using inbox = await SmtpInbox.start({
    users: { u: 'p' },
    refuse: {
      auth() {
        const refusal = isFirst
          ? { code: 432, text: '4.3.2 Concurrent connections limit exceeded' }
          : undefined;
        isFirst = false;
        return refusal;
      },
    },
  });
  const auth = { kind: 'basic' as const, username: 'u', password: 'p' };
  await using sender = createSender({ host: inbox.host, port: inbox.port, tls: 'none', auth });
  await using retrying = withRetry(sender, { firstDelayMs: 100 });
  const first = retrying.send(messageOf('one'));
  await expect.poll(() => isFirst).toBe(false);
  const receipts = await Promise.all([
    first,
    ...names.slice(1).map((name) => retrying.send(messageOf(name))),
  ]);
  const ids = receipts.map(({ messageId }) => messageId);
  expect(new Set(ids).size).toBe(3);
  expect(names.map((name) => idsOf(inbox).get(name))).toEqual(ids);
});

it('an error that a host throws for several messages names for each its own', async () => {
  const error = new MailError('STORAGE_UNAVAILABLE', 'not now', { phase: 'envelope', retryable: true });
  await using inbox = await SmtpInbox.start();
  await using sender = createSender(inbox.url);
  const beforeData = () => Promise.reject(error);
  const ids = names.map((name) => `<${name}@x.org>`);
  const failures = await Promise.all(
    names.map((name, index) =>
      sender
        .send({ ...messageOf(name), messageId: ids[index] ?? '' }, { beforeData })
        .catch(({ code, details }) => [code, details.messageId]),
    ),
  );
  expect(failures).toEqual(ids.map((id) => ['STORAGE_UNAVAILABLE', id]));
});
