import { generateKeyPairSync } from 'node:crypto';
import {
  type ConnectionInput,
  type EmailMessageInput,
  generateSecretKey,
  MemoryLogger,
  parseConnection,
  SecretBox,
} from '@flowpost/core';
import {
  createTestCertificates,
  SmtpInbox,
  type SmtpInboxOptions,
  type TestCertificates,
} from '@flowpost/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { asSmtpConnection } from './connection-target.ts';
import { createSender } from './create-sender.ts';
import type { SenderOptions } from './sending.ts';

const message = {
  from: 'A <a@x.org>',
  to: 'b@x.org',
  subject: 'Hi',
  text: 'Hello',
} satisfies EmailMessageInput;
let certificates: TestCertificates;
beforeAll(async () => {
  certificates = await createTestCertificates(['localhost', '127.0.0.1', 'mail.example.test']);
});

const users = { me: 'hunter2-secret' };
const auth = { kind: 'basic', username: 'me', password: 'hunter2-secret' } as const;
/** Names lead to this machine, so that a host need not look like loopback. */
const lookup: SenderOptions['lookup'] = async () => [{ address: '127.0.0.1', family: 4 }];

async function sendTo(
  server: SmtpInboxOptions,
  connection: Partial<Exclude<ConnectionInput, string>> & Record<string, unknown> = {},
  change: Partial<EmailMessageInput> = {},
) {
  await using inbox = await SmtpInbox.start(server);
  await using sender = createSender(
    { host: '127.0.0.1', port: inbox.port, ...connection } as ConnectionInput,
    { lookup },
  );
  const receipt = await sender.send({ ...message, ...change });
  return { inbox, receipt, mail: inbox.messages[0] };
}

describe('a message arrives', () => {
  it('over a plain loopback connection', async () => {
    const { inbox, mail, receipt } = await sendTo({}, {}, { cc: 'C <c@x.org>', bcc: 'd@x.org' });
    expect(receipt).toMatchObject({
      status: 'sent',
      accepted: ['b@x.org', 'c@x.org', 'd@x.org'],
      rejected: [],
      response: expect.stringMatching(/^250 .*received as/),
      attempts: 1,
      sizeBytes: mail?.raw.length,
      messageId: mail?.messageId,
    });
    expect(mail).toMatchObject({
      subject: 'Hi',
      text: 'Hello\n',
      envelope: { to: ['b@x.org', 'c@x.org', 'd@x.org'] },
    });
    expect(mail?.bcc).toEqual([]);
    expect(inbox.messages).toHaveLength(1);
  });

  it.each(['implicit', 'starttls'] as const)('over %s TLS with a login', async (tls) => {
    const { inbox, mail } = await sendTo(
      { tls, certificate: certificates.valid, users },
      { host: 'mail.example.test', tls, tlsOptions: { ca: certificates.authority.cert }, auth },
    );
    expect(mail).toMatchObject({ secure: true, user: 'me' });
    expect(inbox.authAttempts).toEqual(['PLAIN']);
  });

  it('with LOGIN where PLAIN is not offered, and with encrypted credentials', async () => {
    await using inbox = await SmtpInbox.start({ users, authMethods: ['LOGIN'] });
    const secretBox = new SecretBox([generateSecretKey()]);
    const { compact } = await secretBox.encrypt('hunter2-secret');
    const connection = { host: inbox.host, port: inbox.port, auth: { ...auth, password: compact } };
    await using sender = createSender(connection, { secretBox });
    await sender.send(message);
    expect([inbox.authAttempts, inbox.logins]).toEqual([['LOGIN'], ['me']]);
  });

  it('with the certificate pinned instead of trusted', async () => {
    const { cert } = certificates.selfSigned;
    const { X509Certificate } = await import('node:crypto');
    const pinned = new X509Certificate(cert).fingerprint256;
    for (const tls of ['implicit', 'starttls'] as const) {
      const server = { tls, certificate: certificates.selfSigned, users };
      const { mail } = await sendTo(server, { tls, auth, tlsOptions: { fingerprints: [pinned] } });
      expect(mail?.secure).toBe(true);
      const inbox = sendTo(server, { tls, auth, tlsOptions: { fingerprints: ['ab'.repeat(32)] } });
      await expect(inbox).rejects.toMatchObject({
        code: 'TLS_FINGERPRINT_MISMATCH',
        phase: 'tls',
        category: 'tls',
      });
    }
  });

  it('from the address of the connection when the message has none', async () => {
    const { from: _, ...anonymous } = message;
    await using inbox = await SmtpInbox.start();
    await using sender = createSender({ host: inbox.host, port: inbox.port, from: 'Robot <r@x.org>' });
    await sender.send(anonymous as EmailMessageInput);
    expect(inbox.messages[0]?.from).toEqual([{ name: 'Robot', address: 'r@x.org' }]);
  });

  it('to an SMTPUTF8 address, when the server takes those', async () => {
    const { mail } = await sendTo({}, {}, { to: 'jörg@x.org' });
    expect(mail?.envelope.to).toEqual(['jörg@x.org']);
    const refused = sendTo({ hide: ['SMTPUTF8'] }, {}, { to: 'jörg@x.org' });
    await expect(refused).rejects.toMatchObject({ code: 'SMTPUTF8_NOT_OFFERED', phase: 'envelope' });
  });

  it('with and without PIPELINING, lines that begin with a dot included', async () => {
    for (const hide of [[], ['PIPELINING']] as const) {
      const { mail } = await sendTo({ hide }, {}, { text: '.\n..\n.end\n\n.' });
      expect(mail?.text).toBe('.\n..\n.end\n\n.\n');
    }
  });
});

describe('sessions', () => {
  it('are reused, one login for many messages, and never more than the limit', async () => {
    await using inbox = await SmtpInbox.start({ users });
    const connection = { host: inbox.host, port: inbox.port, auth, limits: { connections: 3 } };
    {
      await using sender = createSender(connection);
      for (let index = 0; index < 5; index++) await sender.send(message);
      expect([inbox.connections, inbox.logins.length]).toEqual([1, 1]);
      await Promise.all(Array.from({ length: 30 }, () => sender.send(message)));
      expect([inbox.connections, inbox.logins.length, inbox.messages.length]).toEqual([3, 3, 35]);
      expect(inbox.openConnections).toBe(3);
    }
    await expect.poll(() => inbox.openConnections).toBe(0);
  });

  it('are closed after the send when asked to', async () => {
    await using inbox = await SmtpInbox.start();
    await using sender = createSender({ host: inbox.host, port: inbox.port });
    await sender.send(message, { closeSession: true });
    await sender.send(message, { closeSession: true });
    expect(inbox.connections).toBe(2);
  });

  it('that the server dropped while parked are replaced without an error, and nothing arrives twice', async () => {
    await using inbox = await SmtpInbox.start();
    await using sender = createSender({ host: inbox.host, port: inbox.port });
    await sender.send(message);
    inbox.dropConnections();
    await sender.send(message);
    expect([inbox.connections, inbox.messages.length]).toEqual([2, 2]);
  });

  it('go on after a refusal', async () => {
    await using inbox = await SmtpInbox.start({
      refuse: {
        rcptTo: (to) => (to === 'no@x.org' ? { code: 550, text: '5.1.1 unknown' } : undefined),
        mailFrom: (from) => (from === 'evil@x.org' ? { code: 550, text: '5.7.1 no' } : undefined),
      },
    });
    await using sender = createSender({ host: inbox.host, port: inbox.port });
    await expect(sender.send({ ...message, to: 'no@x.org' })).rejects.toMatchObject({
      code: 'RECIPIENTS_REFUSED',
    });
    await expect(sender.send({ ...message, from: 'evil@x.org' })).rejects.toMatchObject({
      code: 'SENDER_REFUSED',
    });
    await sender.send(message);
    expect([inbox.connections, inbox.messages.length]).toEqual([1, 1]);
  });

  it('a closed sender says so', async () => {
    await using inbox = await SmtpInbox.start();
    const sender = createSender({ host: inbox.host, port: inbox.port });
    await sender[Symbol.asyncDispose]();
    await expect(sender.send(message)).rejects.toMatchObject({ code: 'SENDER_CLOSED' });
  });
});

describe('partial acceptance', () => {
  const refuse: SmtpInboxOptions['refuse'] = {
    rcptTo: (to) => (to === 'no@x.org' ? { code: 550, text: '5.1.1 No such user' } : undefined),
  };
  const rejected = [{ address: 'no@x.org', code: 550, reply: expect.stringContaining('5.1.1 No such user') }];

  it.each([[[]], [['PIPELINING' as const]]])(
    'is a receipt that says so, or a failure that sent nothing (hiding %j)',
    async (hide) => {
      const { receipt } = await sendTo({ refuse, hide }, {}, { to: 'b@x.org, no@x.org' });
      expect(receipt).toMatchObject({ status: 'partial', accepted: ['b@x.org'], rejected });

      await using inbox = await SmtpInbox.start({ refuse, hide });
      await using sender = createSender({ host: inbox.host, port: inbox.port });
      const strict = sender.send({ ...message, to: 'b@x.org, no@x.org' }, { onPartial: 'fail' });
      await expect(strict).rejects.toMatchObject({
        code: 'RECIPIENTS_REFUSED',
        phase: 'envelope',
        inDoubt: false,
        details: { rejected },
      });
      expect(inbox.messages).toEqual([]);
    },
  );
});

describe('a hook before the first byte', () => {
  it('is awaited, and its failure keeps the message back', async () => {
    await using inbox = await SmtpInbox.start();
    await using sender = createSender({ host: inbox.host, port: inbox.port });
    const seen: string[] = [];
    await sender.send(message, {
      beforeData: async () => {
        await new Promise(setImmediate);
        seen.push(`messages before: ${inbox.messages.length}`);
      },
    });
    const failing = sender.send(message, { beforeData: () => Promise.reject(new Error('disk full')) });
    await expect(failing).rejects.toThrow('disk full');
    await sender.send(message);
    expect([seen, inbox.messages.length]).toEqual([['messages before: 0'], 2]);
  });
});

describe('cancelling', () => {
  it('before the end delivers nothing', async () => {
    await using inbox = await SmtpInbox.start();
    await using sender = createSender({ host: inbox.host, port: inbox.port });
    const controller = new AbortController();
    const sending = sender.send(message, { signal: controller.signal, beforeData: () => controller.abort() });
    await expect(sending).rejects.toMatchObject({
      code: 'SEND_CANCELLED',
      category: 'cancelled',
      inDoubt: false,
    });
    expect(inbox.messages).toEqual([]);
    await expect(sender.send(message, { signal: controller.signal })).rejects.toMatchObject({
      code: 'SEND_CANCELLED',
    });
  });

  it('after the final dot leaves it in doubt', async () => {
    const controller = new AbortController();
    await using inbox = await SmtpInbox.start({
      refuse: {
        message: async () => {
          controller.abort();
          return undefined;
        },
      },
    });
    await using sender = createSender({ host: inbox.host, port: inbox.port });
    await expect(sender.send(message, { signal: controller.signal })).rejects.toMatchObject({
      code: 'DELIVERY_IN_DOUBT',
      phase: 'confirm',
      inDoubt: true,
      retryable: false,
    });
  });
});

it('logs what it does, without content and secrets', async () => {
  await using inbox = await SmtpInbox.start({ users });
  const logger = new MemoryLogger();
  await using sender = createSender({ host: inbox.host, port: inbox.port, auth }, { logger });
  const { messageId } = await sender.send(message);
  expect(logger.entries).toContainEqual({
    level: 'info',
    message: 'message sent',
    fields: expect.objectContaining({ status: 'sent', messageId }),
  });
  expect(JSON.stringify(logger.entries)).not.toMatch(/hunter2|Hello/);
});

it('sends that wait for a session do not repeat a login that was refused', async () => {
  await using inbox = await SmtpInbox.start({ users: { me: 'right' } });
  await using sender = createSender({
    ...{ host: '127.0.0.1', port: inbox.port, limits: { connections: 2 } },
    auth: { kind: 'basic', username: 'me', password: 'wrong' },
  });
  const sends = Array.from({ length: 20 }, () =>
    sender.send({ from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'x' }),
  );
  const ends = await Promise.allSettled(sends);
  expect(new Set(ends.map((end) => end.status === 'rejected' && end.reason.code))).toEqual(
    new Set(['AUTH_REFUSED']),
  );
  expect(inbox.authAttempts.length).toBeLessThanOrEqual(2);
  const ids = ends.map((end) => end.status === 'rejected' && end.reason.details.messageId);
  expect(new Set(ids).size).toBe(20);
});

it('hands a message over for some of its recipients, and to nobody else', async () => {
  await using inbox = await SmtpInbox.start();
  await using sender = createSender(inbox.url);
  const message = { from: 'a@x.org', to: 'b@x.org, c@x.org', subject: 'Hi', text: 'Hello' };
  expect((await sender.send(message, { onlyTo: ['c@x.org'] })).accepted).toEqual(['c@x.org']);
  expect(inbox.messages[0]?.envelope.to).toEqual(['c@x.org']);
  await expect(sender.send(message, { onlyTo: ['d@x.org'] })).rejects.toMatchObject({
    code: 'RECIPIENTS_MISSING',
  });
  expect(inbox.messages).toHaveLength(1);
});

it.each([
  [undefined, 'https://outlook.office365.com/.default'],
  ['smtp.office365.us', 'https://outlook.office365.us/.default'],
  ['smtp.partner.outlook.cn', 'https://partner.outlook.cn/.default'],
])('Microsoft 365 over SMTP at %s asks for %s, wherever tokens come from', (host, scope) => {
  const tokenEndpoint = 'https://login.example/token';
  const auth = {
    kind: 'oauth2-client-credentials',
    user: 'a@x.org',
    clientId: 'app',
    clientSecret: 's',
    tokenEndpoint,
  };
  const connection = {
    kind: 'microsoft365',
    delivery: 'smtp',
    tenantId: 'contoso.com',
    auth,
    ...(host && { host }),
  };
  const parsed = parseConnection(connection as ConnectionInput);
  expect(parsed.kind === 'microsoft365' && asSmtpConnection(parsed).auth).toMatchObject({
    scope,
    tenantId: 'contoso.com',
  });
});

it('a message is signed as it is given, though that is used for the next one while the key is read', async () => {
  await using inbox = await SmtpInbox.start();
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const dkim = [
    {
      domain: 'x.org',
      selector: 's',
      privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    },
  ];
  const { host, port } = inbox;
  await using sender = createSender({ host, port, tls: 'none', dkim });
  const message = { from: 'a@x.org', to: '', subject: 'Hi', text: 'Hello' };
  const sending = ['a@y.org', 'b@y.org'].map((to) => {
    message.to = to;
    return sender.send(message);
  });
  await Promise.all(sending);
  expect(inbox.messages.flatMap(({ envelope }) => envelope.to).sort()).toEqual(['a@y.org', 'b@y.org']);
});
