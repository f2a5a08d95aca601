import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { expect, it } from 'vitest';
import { createTestCertificates } from './certificates.ts';
import { SmtpInbox } from './smtp-inbox.ts';

/** Says one line after another, each after a full reply to the one before, and gives back all replies. */
async function talk(socket: Socket, lines: readonly string[]): Promise<string[]> {
  const replies: string[] = [];
  let pending = '';
  socket.setEncoding('utf8');
  const queue = [...lines];
  for await (const chunk of socket) {
    pending += chunk;
    if (!/(?:^|\r\n)\d{3}(?: [^\r\n]*)?\r\n$/.test(pending)) continue;
    replies.push(pending);
    pending = '';
    const line = queue.shift();
    if (line === undefined) break;
    socket.write(`${line}\r\n`);
  }
  return replies;
}

const plain = (text: string) => Buffer.from(text).toString('base64');

it('keeps a message, parsed', async () => {
  await using inbox = await SmtpInbox.start({ users: { me: 'pw' } });
  const replies = await talk(connectTcp(inbox.port, inbox.host), [
    'EHLO test',
    `AUTH PLAIN ${plain('\0me\0pw')}`,
    'MAIL FROM:<a@x.org>',
    'RCPT TO:<b@x.org>',
    'DATA',
    'From: A <a@x.org>\r\nTo: b@x.org\r\nSubject: Hi\r\n\r\n..dot\r\n.',
    'QUIT',
  ]);
  expect(replies.map((reply) => reply.slice(0, 3))).toEqual([
    '220',
    '250',
    '235',
    '250',
    '250',
    '354',
    '250',
    '221',
  ]);
  const [mail] = await inbox.waitForMessages(1);
  expect(mail).toMatchObject({
    subject: 'Hi',
    from: [{ name: 'A', address: 'a@x.org' }],
    text: '.dot\n',
    envelope: { from: 'a@x.org', to: ['b@x.org'] },
    user: 'me',
    secure: false,
  });
  expect([inbox.connections, inbox.logins]).toEqual([1, ['me']]);
});

it('refuses a wrong password, and whatever it is told to refuse', async () => {
  await using inbox = await SmtpInbox.start({
    users: { me: 'pw' },
    refuse: {
      rcptTo: (address) => (address === 'no@x.org' ? { code: 550, text: '5.1.1 No such user' } : undefined),
    },
  });
  const replies = await talk(connectTcp(inbox.port, inbox.host), [
    'EHLO test',
    `AUTH PLAIN ${plain('\0me\0wrong')}`,
    `AUTH PLAIN ${plain('\0me\0pw')}`,
    'MAIL FROM:<a@x.org>',
    'RCPT TO:<no@x.org>',
    'RCPT TO:<yes@x.org>',
  ]);
  expect(replies.map((reply) => reply.slice(0, 3))).toEqual([
    '220',
    '250',
    '535',
    '235',
    '250',
    '550',
    '250',
  ]);
  expect(inbox.authAttempts).toEqual(['PLAIN', 'PLAIN']);
});

it('shows the certificate it was given, and each kind fails in its own way', async () => {
  const certificates = await createTestCertificates();
  const outcomes: Record<string, string> = {};
  for (const kind of ['valid', 'expired', 'notYetValid', 'wrongHost', 'selfSigned'] as const) {
    await using inbox = await SmtpInbox.start({ tls: 'implicit', certificate: certificates[kind] });
    outcomes[kind] = await new Promise((resolve) => {
      const socket: TLSSocket = connectTls({
        port: inbox.port,
        host: inbox.host,
        ca: certificates.authority.cert,
      });
      socket.once('secureConnect', () => resolve('trusted'));
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
  }
  expect(outcomes).toEqual({
    valid: 'trusted',
    expired: 'CERT_HAS_EXPIRED',
    notYetValid: 'CERT_NOT_YET_VALID',
    wrongHost: 'ERR_TLS_CERT_ALTNAME_INVALID',
    selfSigned: 'DEPTH_ZERO_SELF_SIGNED_CERT',
  });
});

it('has a URL, also at an IPv6 address', async () => {
  await using inbox = await SmtpInbox.start({ host: '::1' });
  expect(inbox.url).toBe(`smtp://[::1]:${inbox.port}`);
});
