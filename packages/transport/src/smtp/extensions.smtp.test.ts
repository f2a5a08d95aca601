import { type ConnectionInput, type EmailMessageInput, type SendOptions, toMailError } from '@flowpost/core';
import { type ComposedMessage, composeMessage } from '@flowpost/mime-attachments';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { mailCommand } from './envelope-commands.ts';
import { assertCarries, readExtensions } from './extensions.ts';

const message = {
  from: 'a@x.org',
  to: 'b@x.org, c@x.org',
  subject: 'Hi',
  text: 'Hello',
} satisfies EmailMessageInput;

/** What a client says to a server that offers these extensions. */
async function commands(
  offers: string[],
  options: SendOptions = {},
  change: Partial<EmailMessageInput> = {},
) {
  const said: string[] = [];
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => {
      said.push(command);
      const lines = ['test', ...offers].map(
        (one, index, all) => `250${index < all.length - 1 ? '-' : ' '}${one}`,
      );
      return command.startsWith('EHLO') ? lines.join('\r\n') : undefined;
    }),
  );
  await using sender = createSender({ host: '127.0.0.1', port: server.port, tls: 'none' });
  const outcome = await sender.send({ ...message, ...change }, options).catch((error) => error);
  return { outcome, said };
}
const starting = (said: string[], verb: string) => said.filter((command) => command.startsWith(verb));

describe('envelope parameters', () => {
  it('none that the server does not know', async () => {
    const { said, outcome } = await commands([], { dsn: { notify: ['failure'], envelopeId: 'id' } });
    expect(outcome).toMatchObject({ status: 'sent', notifications: 'not-offered' });
    expect(starting(said, 'MAIL')).toEqual(['MAIL FROM:<a@x.org>']);
    expect(starting(said, 'RCPT')).toEqual(['RCPT TO:<b@x.org>', 'RCPT TO:<c@x.org>']);
  });

  it('SIZE, exact', async () => {
    const { outcome, said } = await commands(['SIZE 100000']);
    expect(outcome).not.toHaveProperty('notifications');
    expect(starting(said, 'MAIL')).toEqual([`MAIL FROM:<a@x.org> SIZE=${outcome.sizeBytes}`]);
  });

  it('SMTPUTF8 and 8BITMIME together, when an address needs them', async () => {
    const { said } = await commands(['SMTPUTF8', '8BITMIME'], {}, { to: 'jörg@x.org' });
    expect(starting(said, 'MAIL')).toEqual(['MAIL FROM:<a@x.org> BODY=8BITMIME SMTPUTF8']);
    const { said: plain } = await commands(['SMTPUTF8', '8BITMIME']);
    expect(starting(plain, 'MAIL')).toEqual(['MAIL FROM:<a@x.org>']);
  });

  it('DSN in xtext', async () => {
    const dsn = { notify: ['success', 'failure'], return: 'headers', envelopeId: 'a+b=c' } as const;
    const { said, outcome } = await commands(
      ['DSN'],
      { dsn: { ...dsn, notify: [...dsn.notify] } },
      { to: 'b+c@x.org' },
    );
    expect(outcome.notifications).toBe('requested');
    expect(starting(said, 'MAIL')).toEqual(['MAIL FROM:<a@x.org> RET=HDRS ENVID=a+2Bb+3Dc']);
    expect(starting(said, 'RCPT')).toEqual([
      'RCPT TO:<b+c@x.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bc@x.org',
    ]);
    const unicode = await commands(
      ['DSN', 'SMTPUTF8'],
      { dsn: { notify: ['failure'] } },
      { to: 'j\u00f6\u{1f600}rg@x.org' },
    );
    expect(starting(unicode.said, 'RCPT')[0]).toContain('ORCPT=utf-8;j\\x{F6}\\x{1F600}rg@x.org');
    const never = await commands(['DSN'], { dsn: { notify: 'never' } }, { to: 'b@x.org' });
    expect(starting(never.said, 'RCPT')).toEqual(['RCPT TO:<b@x.org> NOTIFY=NEVER ORCPT=rfc822;b@x.org']);
  });

  it('REQUIRETLS, or nothing at all', async () => {
    const composed = await composeMessage(message);
    const extensions = new Map([['REQUIRETLS', []]]);
    expect(mailCommand(composed, extensions, { requireTls: true })).toBe(
      'MAIL FROM:<a@x.org> REQUIRETLS\r\n',
    );
    // Not offered, or offered in clear, which promises nothing.
    for (const offers of [[], ['REQUIRETLS']]) {
      const { outcome, said } = await commands(offers, { requireTls: true });
      expect(outcome).toMatchObject({ code: 'REQUIRETLS_NOT_OFFERED', phase: 'envelope', retryable: false });
      expect(starting(said, 'MAIL')).toEqual([]);
    }
  });

  it('the name in EHLO is the given one, or an address', async () => {
    const { said } = await commands([]);
    expect(starting(said, 'EHLO')[0]).toMatch(/^EHLO (?:\[127\.0\.0\.1\]|[\w-]+(?:\.[\w-]+)+)$/);
  });
});

describe('LMTP', () => {
  /** A mail store that answers for each recipient. */
  async function deliver(answers: Record<string, string>, options: SendOptions = {}) {
    const recipients: string[] = [];
    let ended = 0;
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('EHLO')) return '500 this is LMTP';
        if (command.startsWith('LHLO')) return '250-store\r\n250 PIPELINING';
        const [, rcpt] = /^RCPT TO:<(.*)>/.exec(command) ?? [];
        if (rcpt !== undefined && answers[rcpt] !== 'refuse') recipients.push(rcpt);
        if (rcpt !== undefined && answers[rcpt] === 'refuse') return '550 5.1.1 nobody';
        if (command !== '.') return undefined;
        ended++;
        return recipients
          .splice(0)
          .map((one) => answers[one] ?? '250 2.1.5 stored')
          .join('\r\n');
      }),
    );
    const connection: ConnectionInput = `lmtp://127.0.0.1:${server.port}?tls=none`;
    await using sender = createSender(connection);
    const outcome = await sender.send(message, options).catch((error) => error);
    const again = await sender.send({ ...message, to: 'd@x.org' });
    expect(again.status).toBe('sent');
    return { outcome, ended, connections: server.connections };
  }

  it('a yes for each is sent', async () => {
    expect((await deliver({})).outcome).toMatchObject({ status: 'sent', accepted: ['b@x.org', 'c@x.org'] });
  });

  it('a no for one is partial, before the message or after it', async () => {
    const after = await deliver({ 'c@x.org': '452 4.2.2 full' });
    expect(after.outcome).toMatchObject({
      status: 'partial',
      accepted: ['b@x.org'],
      rejected: [{ address: 'c@x.org', code: 452, reply: '452 4.2.2 full' }],
    });
    const before = await deliver({ 'b@x.org': 'refuse' });
    expect(before.outcome).toMatchObject({
      status: 'partial',
      accepted: ['c@x.org'],
      rejected: [{ address: 'b@x.org' }],
    });
    expect([after.connections, before.connections]).toEqual([1, 1]);
  });

  it('a no for all is a failure that names them', async () => {
    const { outcome } = await deliver({ 'b@x.org': '552 5.2.2 full', 'c@x.org': '452 4.2.2 full' });
    // One of them may have it later.
    expect(outcome).toMatchObject({
      ...{ code: 'MESSAGE_DEFERRED', retryable: true, inDoubt: false },
      details: { rejected: { length: 2 } },
    });
    const final = await deliver({ 'b@x.org': '552 5.2.2 full', 'c@x.org': '550 5.1.1 gone' });
    expect(final.outcome).toMatchObject({ code: 'MESSAGE_REFUSED', retryable: false, inDoubt: false });
  });

  it('a message that is too large will be so later as well, and the code is what the server said', async () => {
    for (const [reply, code] of [
      ['552 5.3.4 Message size exceeds fixed limit', 'MESSAGE_TOO_LARGE'],
      ['552 5.2.3 Message too large for this recipient', 'RECIPIENTS_REFUSED'],
    ]) {
      await using inbox = await SmtpInbox.start({
        refuse: { rcptTo: () => ({ code: 552, text: `${reply}`.slice(4) }) },
      });
      await using sender = createSender(inbox.url);
      const outcome = await sender.send({ from: 'a@x.org', to: 'b@x.org', text: 'x' }).catch(toMailError);
      expect(outcome).toMatchObject({ code, retryable: false, details: { replyCode: 552, reply } });
    }
    await using inbox = await SmtpInbox.start({
      refuse: { rcptTo: () => ({ code: 552, text: '5.2.2 full' }) },
    });
    await using sender = createSender(inbox.url);
    const outcome = await sender.send({ from: 'a@x.org', to: 'b@x.org', text: 'x' }).catch(toMailError);
    expect(outcome).toMatchObject({ retryable: true, details: { replyCode: 552 } });
  });
});

const envelope = { from: 'a@x.org', to: ['jörg@x.org'], smtpUtf8: true };

it('SIZE: as many bytes as the server takes, and not one more', () => {
  const offers = readExtensions('250-test\n250-SIZE 1000\n250 SMTPUTF8');
  const send = (sizeBytes: number) => () =>
    assertCarries(offers, { envelope, sizeBytes }, { requireTls: false, encrypted: false });
  expect(send(1_000)).not.toThrow();
  expect(send(1_001)).toThrow(/takes 1000/);
});

it('BODY only where 8BITMIME is offered', () => {
  const message = { envelope, sizeBytes: 1 } as unknown as ComposedMessage;
  const command = mailCommand(message, readExtensions('250-test\n250 SMTPUTF8'), {});
  expect(command).toBe('MAIL FROM:<a@x.org> SMTPUTF8\r\n');
});
