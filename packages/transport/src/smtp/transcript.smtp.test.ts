import type { TranscriptLine } from '@flowpost/core';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { Transcript } from './transcript.ts';

const secret = 'hunter2-S3cret!';
const message = {
  from: 'a@x.org',
  to: 'b@x.org, c@x.org',
  subject: 'Private',
  text: 'Nobody shall read this.',
};
const show = ({ from, text }: TranscriptLine): string => `${from === 'client' ? '>' : '<'} ${text}`;

it('of a whole send: every command and reply, no secret, no content', async () => {
  await using inbox = await SmtpInbox.start({ users: { me: secret } });
  const auth = { kind: 'basic', username: 'me', password: secret } as const;
  await using sender = createSender({ host: inbox.host, port: inbox.port, auth });
  const lines: string[] = [];
  await sender.send(message, { transcript: (line) => lines.push(show(line)) });
  const text = lines.join('\n');
  expect(text).toMatch(/^> \(connected to 127\.0\.0\.1:\d+\)\n< 220 /);
  expect(text).toContain('> AUTH PLAIN ***\n< 235');
  expect(text).toContain('> MAIL FROM:<a@x.org>');
  expect(text).toContain('> RCPT TO:<b@x.org>\n> RCPT TO:<c@x.org>\n> DATA\n');
  expect(text).toMatch(/> \(\d+ bytes of the message\)\n< 250/);
  expect(text).not.toMatch(/Private|Nobody/);
  for (const form of [secret, Buffer.from(`\0me\0${secret}`).toString('base64')])
    expect(text).not.toContain(form);
  // The next send over the same session has a transcript of its own, or none.
  const before = lines.length;
  await sender.send(message);
  expect(lines).toHaveLength(before);
});

describe('what is secret', () => {
  const record = (play: (transcript: Transcript) => void, scrub = (text: string) => text): string[] => {
    const transcript = new Transcript(scrub);
    const lines: string[] = [];
    transcript.listener = (line) => lines.push(show(line));
    play(transcript);
    return lines;
  };

  it('the answers to challenges, and the challenges', () => {
    const lines = record((transcript) => {
      transcript.sent('AUTH LOGIN\r\n');
      transcript.received(334, '334 VXNlcm5hbWU6');
      transcript.sent('bWU=\r\n');
      transcript.received(334, '334 UGFzc3dvcmQ6');
      transcript.sent(`${Buffer.from(secret).toString('base64')}\r\n`);
      transcript.received(535, '535 5.7.8 no');
      transcript.sent('QUIT\r\n');
    });
    expect(lines).toEqual([
      '> AUTH LOGIN',
      '< 334 ***',
      '> ***',
      '< 334 ***',
      '> ***',
      '< 535 5.7.8 no',
      '> QUIT',
    ]);
  });

  it('an initial response, in whatever case, also an empty one', () => {
    const lines = record((transcript) => {
      transcript.sent('auth xoauth2 dXNlcj1tZQ==\r\n');
      transcript.received(235, '235 ok');
      transcript.sent('AUTH PLAIN =\r\n');
    });
    expect(lines).toEqual(['> auth xoauth2 ***', '< 235 ok', '> AUTH PLAIN ***']);
  });

  it('what a server echoes', () => {
    const scrub = (text: string) => text.replaceAll(secret, '***');
    const lines = record((transcript) => transcript.received(550, `550-you said\n550 ${secret}`), scrub);
    expect(lines).toEqual(['< 550-you said', '< 550 ***']);
  });
});

it('a listener that comes after the login hears nothing of it', async () => {
  await using server = await RawServer.start((socket) =>
    speakSmtp(socket, (command) => (command.startsWith('EHLO') ? '250-x\r\n250 AUTH PLAIN' : undefined)),
  );
  const auth = { kind: 'basic', username: 'me', password: secret } as const;
  await using sender = createSender({ host: '127.0.0.1', port: server.port, auth });
  await sender.send(message);
  const lines: string[] = [];
  await sender.send(message, { transcript: (line) => lines.push(show(line)) });
  expect(lines[0]).toBe('> MAIL FROM:<a@x.org>');
});

it('a listener that fails changes nothing', async () => {
  await using inbox = await SmtpInbox.start();
  await using sender = createSender(inbox.url);
  const transcript = () => {
    throw new Error('the log disk is full');
  };
  const large = { ...message, text: 'a line of text\n'.repeat(10_000) };
  for (const one of [message, large]) expect((await sender.send(one, { transcript })).status).toBe('sent');
  expect(inbox.messages).toHaveLength(2);
});
