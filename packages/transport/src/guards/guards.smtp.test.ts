import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import {
  type Clock,
  type DuplicateStore,
  type EmailMessageInput,
  isMailError,
  type MailSender,
  ManualClock,
  MemoryDuplicateStore,
  type OutgoingMessage,
  systemClock,
} from '@flowpost/core';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { contentHash } from './content-hash.ts';
import { withDuplicateGuard } from './duplicate-guard.ts';
import { type MailTrigger, withLoopGuard } from './loop-guard.ts';
import { type RetryOptions, withRetry } from './retry.ts';
import { withSandbox } from './sandbox.ts';

const message = { from: 'a@x.org', to: 'b@x.org', subject: 'Hi', text: 'Hello' } satisfies EmailMessageInput;

/** A clock whose sleeps end at once, and are written down. */
function impatient(): Clock & { readonly slept: number[] } {
  const slept: number[] = [];
  return {
    slept,
    now: () => Date.now(),
    monotonic: () => performance.now(),
    sleep: async (ms) => void slept.push(ms),
  };
}

/** A server whose n-th transaction gets the n-th answer to its final dot; null closes without one. */
async function answering(answers: readonly (string | null)[], verb = '.') {
  const bodies: string[] = [];
  let body = '';
  const server = await RawServer.start((socket) =>
    speakSmtp(
      socket,
      (command) => {
        if (!command.startsWith(verb)) return undefined;
        if (verb === '.') bodies.push(body);
        const answer = answers[Math.min(asked++, answers.length - 1)];
        if (answer === null) socket.destroy();
        return answer ?? null;
      },
      (soFar) => {
        body = soFar.toString();
      },
    ),
  );
  let asked = 0;
  return { server, bodies, url: `smtp://127.0.0.1:${server.port}?tls=none` };
}

async function retrying(answers: readonly (string | null)[], options: RetryOptions = {}, verb?: string) {
  const { server, bodies, url } = await answering(answers, verb);
  const clock = impatient();
  await using _ = server;
  await using sender = withRetry(createSender(url), { clock, random: () => 1, ...options });
  const outcome = await sender.send(message).catch((error) => error);
  return { outcome, bodies, slept: clock.slept };
}
const header = (body: string | undefined, name: string) =>
  new RegExp(`^${name}: (.*)$`, 'm').exec(body ?? '')?.[1];

describe('retry', () => {
  it('tries again after 4yz, as the same message, waiting longer each time', async () => {
    const { outcome, bodies, slept } = await retrying(['451 4.3.0 later', '451 4.3.0 later', '250 ok']);
    expect(outcome).toMatchObject({ status: 'sent', attempts: 3 });
    expect(slept).toEqual([1_000, 2_000]);
    expect(new Set(bodies).size).toBe(1);
  });

  it('gives up in the end, and says how often it tried', async () => {
    const { outcome, slept } = await retrying(['451 4.3.0 later'], { attempts: 4 });
    expect(outcome).toMatchObject({ code: 'MESSAGE_DEFERRED', details: { attempts: 4 } });
    expect(slept).toEqual([1_000, 2_000, 4_000]);
  });

  it('never after a final refusal', async () => {
    const { outcome, slept } = await retrying(['554 5.6.0 no', '250 ok']);
    expect([outcome.code, slept]).toEqual(['MESSAGE_REFUSED', []]);
  });

  it('never in doubt, unless told so, and then with the same Message-ID and Date', async () => {
    const held = await retrying([null, '250 ok']);
    expect(held.outcome).toMatchObject({
      code: 'DELIVERY_IN_DOUBT',
      details: { messageId: header(held.bodies[0], 'Message-ID') },
    });
    expect(held.bodies).toHaveLength(1);
    const resent = await retrying([null, '250 ok'], { onDoubt: 'resend' });
    expect(resent.outcome).toMatchObject({ status: 'sent', attempts: 2 });
    expect(resent.bodies).toHaveLength(2);
    expect(new Set(resent.bodies).size).toBe(1);
  });

  it('not before a server allows it, and not at all when that is too long', async () => {
    const soon = await retrying(['432 4.3.2 Concurrent connections limit exceeded', '250 ok'], {}, 'MAIL');
    expect(soon.outcome.status).toBe('sent');
    expect(soon.slept).toEqual([10_000]);
    const late = await retrying(['421 4.7.0 Try again later. gsmtp', '250 ok'], {}, 'MAIL');
    expect(late.outcome).toMatchObject({
      code: 'SENDER_DEFERRED',
      retryable: true,
      details: { retryAfterMs: 300_000 },
    });
    expect(late.slept).toEqual([]);
  });

  describe('of recipients who are refused for now', () => {
    /** What RCPT for c@x.org is answered, time after time. */
    async function greylisting(answers: readonly string[], options: RetryOptions = {}, end = '250 ok') {
      const said: string[] = [];
      const bodies: string[] = [];
      let asked = 0;
      let dots = 0;
      await using server = await RawServer.start((socket) =>
        speakSmtp(
          socket,
          (command) => {
            if (/^(?:MAIL|RCPT)/.test(command)) said.push(command);
            if (command === 'RCPT TO:<c@x.org>') return answers[Math.min(asked++, answers.length - 1)];
            if (command !== '.' || ++dots === 1 || end !== '') return command === '.' ? '250 ok' : undefined;
            socket.destroy();
            return null;
          },
          (body) => {
            bodies[dots] = body.toString();
          },
        ),
      );
      const sender = createSender(`smtp://127.0.0.1:${server.port}?tls=none`);
      await using retried = withRetry(sender, { clock: impatient(), ...options });
      const outcome = await retried
        .send({ ...message, to: 'b@x.org, c@x.org, d@x.org' })
        .catch((error) => error);
      return { outcome, said, bodies };
    }
    const later = '451 4.2.1 try later';

    it('they alone are asked for again, with the same message', async () => {
      const { outcome, said, bodies } = await greylisting([later, '250 ok']);
      expect(outcome).toMatchObject({ status: 'sent', rejected: [], attempts: 2 });
      expect(outcome.accepted).toEqual(['b@x.org', 'd@x.org', 'c@x.org']);
      expect(said.slice(4)).toEqual(['MAIL FROM:<a@x.org>', 'RCPT TO:<c@x.org>']);
      expect(header(bodies[1], 'Message-ID')).toBe(header(bodies[0], 'Message-ID'));
      expect(header(bodies[1], 'To')).toBe('b@x.org, c@x.org, d@x.org');
    });

    it('what was delivered to others stays so, whatever becomes of them', async () => {
      const still = await greylisting([later]);
      expect(still.outcome).toMatchObject({
        status: 'partial',
        accepted: ['b@x.org', 'd@x.org'],
        attempts: 3,
      });
      expect(still.outcome.rejected).toMatchObject([{ address: 'c@x.org', code: 451 }]);
      const never = await greylisting([later, '550 5.1.1 no such user']);
      expect(never.outcome).toMatchObject({ status: 'partial', rejected: [{ code: 550 }], attempts: 2 });
      const once = await greylisting([later], { attempts: 1 });
      expect([once.outcome.status, once.said.length]).toEqual(['partial', 4]);
    });

    it('who is one too many for a message gets another one at once, which is no further attempt', async () => {
      await using inbox = await SmtpInbox.start({
        recipientsPerMessage: 2,
        refuse: {
          rcptTo: (one) => (one === 'never@x.org' ? { code: 450, text: '4.2.1 later' } : undefined),
        },
      });
      const clock = impatient();
      await using retried = withRetry(createSender(inbox.url), { attempts: 1, clock });
      const to = ['1', '2', '3', 'never', '4', '5', '6', '7'].map((name) => `${name}@x.org`);
      const receipt = await retried.send({ ...message, to });
      expect(receipt).toMatchObject({
        status: 'partial',
        attempts: 1,
        rejected: [{ address: 'never@x.org' }],
      });
      expect(inbox.messages.map(({ envelope }) => envelope.to.length)).toEqual([2, 2, 2, 1]);
      expect(new Set(inbox.messages.map(({ messageId }) => messageId)).size).toBe(1);
      expect(clock.slept).toEqual([]);
    });

    it('and who was put off for another reason is not forgotten over them', async () => {
      let rounds = 0;
      await using inbox = await SmtpInbox.start({
        recipientsPerMessage: 1,
        refuse: {
          mailFrom: () => {
            rounds++;
            return undefined;
          },
          rcptTo: (one) => {
            if (one === 'greylisted@x.org' && rounds < 3) return { code: 451, text: '4.7.1 greylisted' };
            return one === 'gone@x.org' && rounds === 2 ? { code: 550, text: '5.1.1 unknown' } : undefined;
          },
        },
      });
      await using retried = withRetry(createSender(inbox.url), { clock: impatient() });
      const to = ['1@x.org', 'greylisted@x.org', 'gone@x.org'];
      expect(await retried.send({ ...message, to })).toMatchObject({
        accepted: ['1@x.org', 'greylisted@x.org'],
        rejected: [{ address: 'gone@x.org', code: 550 }],
      });
    });

    it("and in that order: those who are put off anyway take nobody's place", async () => {
      let asked = 0;
      await using server = await RawServer.start((socket) =>
        speakSmtp(socket, (command) => {
          if (command.startsWith('MAIL')) asked = 0;
          if (!command.startsWith('RCPT')) return undefined;
          if (++asked > 2) return '452 4.5.3 Too many recipients';
          return command.includes('later') ? '451 4.7.1 greylisted' : undefined;
        }),
      );
      const url = `smtp://127.0.0.1:${server.port}?tls=none`;
      await using retried = withRetry(createSender(url), { attempts: 1 });
      const to = ['1', 'later1', 'later2', '2', '3'].map((name) => `${name}@x.org`);
      expect((await retried.send({ ...message, to })).accepted).toEqual(['1@x.org', '2@x.org', '3@x.org']);
    });

    it('and what a later attempt delivered is delivered, whoever is still in doubt', async () => {
      let messages = 0;
      await using server = await RawServer.start((socket) =>
        speakSmtp(socket, (command) => {
          if (command.startsWith('MAIL')) messages++;
          if (command.startsWith('RCPT TO:<b@') && messages === 1) return '451 4.7.1 later';
          if (command.startsWith('RCPT TO:<c@') && messages > 1) return '550 5.1.1 unknown';
          if (command !== '.' || messages > 1) return undefined;
          socket.end();
          return null;
        }),
      );
      const url = `smtp://127.0.0.1:${server.port}?tls=none`;
      const options = { attempts: 6, onDoubt: 'resend', firstDelayMs: 1 } as const;
      await using retried = withRetry(createSender(url), options);
      const sending = retried.send({ ...message, to: 'b@x.org, c@x.org' });
      await expect(sending).rejects.toMatchObject({
        inDoubt: true,
        details: {
          unconfirmed: ['c@x.org'],
          delivered: { accepted: ['b@x.org'], rejected: [{ address: 'c@x.org', code: 550 }] },
        },
      });
      expect(messages).toBe(2);
    });

    it('but not for ever: where nobody new gets it, that was it', async () => {
      const full = await greylisting(['452 4.5.3 Too many recipients'], { attempts: 1 });
      expect([full.outcome.status, full.said.length]).toEqual(['partial', 6]);
      const noRoom = await greylisting(['452 4.2.2 mailbox full'], { attempts: 1 });
      expect([noRoom.outcome.status, noRoom.said.length]).toEqual(['partial', 4]);
    });

    it('doubt about them is doubt, and says who got it', async () => {
      const { outcome } = await greylisting([later, '250 ok'], {}, '');
      expect(outcome).toMatchObject({
        inDoubt: true,
        // No answer is no refusal, whatever the server said the time before.
        details: { accepted: ['b@x.org', 'd@x.org'], unconfirmed: ['c@x.org'], rejected: [] },
      });
    });
  });

  it('what was in doubt once stays so, whatever a later attempt meets', async () => {
    let connections = 0;
    let taken = 0;
    await using server = await RawServer.start((socket) => {
      const first = ++connections === 1;
      speakSmtp(socket, (command) => {
        if (command === 'GREETING') return first ? undefined : '554 5.3.2 closed';
        if (command !== '.') return undefined;
        taken++;
        socket.destroy();
        return null;
      });
    });
    const store = new MemoryDuplicateStore();
    const retried = withRetry(createSender(`smtp://127.0.0.1:${server.port}?tls=none`), {
      clock: impatient(),
      onDoubt: 'resend',
    });
    await using sender = withDuplicateGuard(retried, { store, waitMs: 0 });
    await expect(sender.send(message)).rejects.toMatchObject({
      code: 'DELIVERY_IN_DOUBT',
      inDoubt: true,
      details: { attempts: 2, lastFailure: { code: 'GREETING_REFUSED' } },
    });
    await expect(sender.send(message)).rejects.toMatchObject({ code: 'DUPLICATE_IN_DOUBT', inDoubt: true });
    expect(taken).toBe(1);
  });

  it('a caller who gives up while waiting learns what went wrong', async () => {
    const { server, url } = await answering(['451 4.3.0 later']);
    await using _ = server;
    const controller = new AbortController();
    const clock: Clock = {
      ...systemClock,
      sleep: async () => {
        controller.abort();
        throw new Error('aborted');
      },
    };
    await using sender = withRetry(createSender(url), { clock });
    await expect(sender.send(message, { signal: controller.signal })).rejects.toMatchObject({
      code: 'MESSAGE_DEFERRED',
    });
  });
});

describe('loop guard', () => {
  const from = 'Ann Example <Ann.Ex@gmail.com>';
  async function guarded(
    change: Partial<EmailMessageInput>,
    headers?: MailTrigger['headers'],
    sender = from,
  ) {
    await using inbox = await SmtpInbox.start();
    await using guard = withLoopGuard(createSender(inbox.url), { from: sender, headers });
    const outcome = await guard.send({ ...message, ...change }).catch((error) => error);
    return { outcome, sent: inbox.messages.length };
  }

  it.each<[string, Partial<EmailMessageInput>]>([
    ['To', { to: 'ann.ex@gmail.com' }],
    ['Cc', { cc: ['c@x.org', 'ANN.EX@GMAIL.COM'] }],
    ['Bcc', { bcc: 'ann.ex@gmail.com' }],
    ['another name', { to: 'Somebody Else <ann.ex@gmail.com>' }],
    ['dots and a tag', { to: 'annex+tag@googlemail.com' }],
    ['an object in a nested list', { to: [[{ address: 'a.nnex@gmail.com' }]] }],
  ])('refuses the mailbox in %s', async (_, change) => {
    const { outcome, sent } = await guarded(change);
    expect(outcome).toMatchObject({ code: 'MAIL_LOOP_BLOCKED', category: 'input', retryable: false });
    expect(sent).toBe(0);
  });

  it.each<[string, Partial<EmailMessageInput>]>([
    ['no Cc', { cc: '' }],
    ['no To', { to: '', cc: 'c@x.org' }],
    ['nothing but Bcc', { to: [], cc: [], bcc: 'c@x.org' }],
  ])('lets a message with %s pass', async (_, change) => {
    expect(await guarded(change)).toMatchObject({ outcome: { status: 'sent' }, sent: 1 });
  });

  it('refuses where answers to that message would go', async () => {
    expect((await guarded({}, { 'Reply-To': 'B <B@X.org>' })).outcome.code).toBe('MAIL_LOOP_BLOCKED');
  });

  it.each([
    { 'Auto-Submitted': 'auto-replied' },
    { 'X-Auto-Response-Suppress': 'DR; OOF; AutoReply' },
    { 'X-Auto-Response-Suppress': '-1' },
    { 'auto-submitted': 'auto-generated; owner-email=x' },
    { Precedence: 'bulk' },
    { Precedence: 'junk' },
    { 'X-Autorespond': 'yes' },
    { 'Return-Path': '<>' },
    { 'List-Id': ['<news.x.org>'] },
  ])('refuses to answer automatic mail: %j', async (headers) => {
    const { outcome, sent } = await guarded({}, headers as Record<string, string>);
    expect([outcome.code, sent]).toEqual(['MAIL_LOOP_AUTOMATIC', 0]);
  });

  it.each([
    ['Support Team b@x.org', {}],
    ['<broken, b@x.org', {}],
    ['Doe, John <j@x.org>, b@x.org', {}],
    ['b@x.org.', {}],
    ['<@route.example:b@x.org>', {}],
    ['j@y.org', { 'Reply-To': ['j@y.org', 'b@x.org'] }],
    ['j@y.org', { Sender: 'b@x.org' }],
    ['j@y.org', { 'Resent-Sender': 'b@x.org' }],
  ])('finds the mailbox in %j %j', async (sender, headers) => {
    expect((await guarded({}, headers as Record<string, string[]>, sender)).outcome.code).toBe(
      'MAIL_LOOP_BLOCKED',
    );
  });

  it.each([{ 'Auto-Submitted': ['no', 'auto-replied'] }, { 'List-Help': '<https://x.org>' }])(
    'sees automatic mail in %j',
    async (headers) => {
      expect((await guarded({}, headers)).outcome.code).toBe('MAIL_LOOP_AUTOMATIC');
    },
  );

  it.each([
    ['a Map', new Map([['Auto-Submitted', ['auto-replied']]])],
    ['Headers', new Headers({ 'Auto-Submitted': 'auto-replied' })],
    ['a list', [['Auto-Submitted', 'auto-replied'] as const]],
    ['a field given twice', ['auto-replied', 'no'].map((value) => ['Auto-Submitted', value] as const)],
  ])('sees automatic mail in %s', async (_, headers) => {
    expect((await guarded({}, headers)).outcome.code).toBe('MAIL_LOOP_AUTOMATIC');
  });

  it('sees a report of the post office', async () => {
    expect((await guarded({}, {}, 'Postmaster@y.org')).outcome.code).toBe('MAIL_LOOP_AUTOMATIC');
  });

  it('lets everything else through', async () => {
    expect((await guarded({}, { 'auto-submitted': 'no (a person wrote this)' })).outcome.status).toBe('sent');
    expect((await guarded({}, { 'auto-submitted': 'no (a (real) person)' })).outcome.status).toBe('sent');
    expect((await guarded({}, { 'auto-submitted': 'no', precedence: 'normal' })).outcome.status).toBe('sent');
    expect((await guarded({}, { 'X-Auto-Response-Suppress': 'DR, RN' })).outcome.status).toBe('sent');
    expect((await guarded({ to: 'ann.ex@x.org' }, undefined, 'ann.ex@y.org')).outcome.status).toBe('sent');
  });

  it('refuses when nobody knows where the message came from', async () => {
    expect((await guarded({}, undefined, null as never)).outcome.code).toBe('MAIL_LOOP_AUTOMATIC');
    const { outcome } = await guarded({}, undefined, 'no address at all');
    expect(outcome).toMatchObject({ code: 'MAIL_LOOP_AUTOMATIC' });
  });
});

describe('duplicate guard', () => {
  const guardOf = (url: string, options: object = {}): MailSender =>
    withDuplicateGuard(createSender(url), { store: new MemoryDuplicateStore(), ...options });

  it('sends once within the window, and again after it', async () => {
    await using inbox = await SmtpInbox.start();
    const clock = new ManualClock();
    await using guard = guardOf(inbox.url, { store: new MemoryDuplicateStore(clock), clock });
    const first = await guard.send(message);
    expect(await guard.send({ ...message, date: '2026-01-01T00:00:00Z' })).toEqual({
      ...first,
      status: 'duplicate',
    });
    expect((await guard.send({ ...message, text: 'Other' })).status).toBe('sent');
    clock.advance(3_600_000);
    expect((await guard.send(message)).status).toBe('sent');
    expect(inbox.messages).toHaveLength(3);
  });

  it('for others of its recipients it is another message, with a key of its own too', async () => {
    await using inbox = await SmtpInbox.start();
    const store = new MemoryDuplicateStore();
    const both = { ...message, to: ['b@x.org', 'c@x.org'] };
    for (const key of [undefined, 'order 1', 'order 2']) {
      await using guard = guardOf(inbox.url, { store, key });
      for (const onlyTo of [['b@x.org'], ['c@x.org'], ['c@X.org']]) await guard.send(both, { onlyTo });
    }
    const got = inbox.messages.map(({ envelope }) => envelope.to);
    expect(got).toEqual([['b@x.org'], ['c@x.org'], ['b@x.org'], ['c@x.org'], ['b@x.org'], ['c@x.org']]);
    await using away = withSandbox(createSender(inbox.url), { redirectTo: { address: 'test@x.org' } });
    expect(await away.send(both, { onlyTo: ['c@x.org'] })).toMatchObject({ accepted: ['test@x.org'] });
  });

  it('sends what stands in the lists of a message when it is given, and what its class says', async () => {
    let count = 0;
    await using inbox = await SmtpInbox.start({
      refuse: { mailFrom: () => (count++ === 0 ? { code: 451, text: '4.3.0 later' } : undefined) },
    });
    class Invoice {
      readonly from = 'a@x.org';
      readonly to = ['b@y.org'];
      get text() {
        return 'of the class';
      }
    }
    await using sender = withRetry(createSender(inbox.url), { firstDelayMs: 1 });
    const odd: Record<string, unknown> = {};
    odd.self = odd;
    await expect(sender.send({ ...message, odd } as typeof message)).rejects.toMatchObject({
      code: 'INPUT_INVALID',
    });
    const invoice = new Invoice();
    const sending = sender.send(invoice);
    invoice.to[0] = 'c@y.org';
    await sending;
    expect(inbox.messages).toMatchObject([{ envelope: { to: ['b@y.org'] }, text: 'of the class\n' }]);
  });

  it('also of one that is frozen on the outside, with what a sandbox made', async () => {
    await using inbox = await SmtpInbox.start();
    await using guard = withDuplicateGuard(createSender(inbox.url), { store: new MemoryDuplicateStore() });
    const to = ['ann@x.org'];
    const headers: Record<string, string> = runInNewContext("({ 'X-Kept': 'one' })");
    const sending = guard.send(Object.freeze({ ...message, to, headers }));
    to[0] = 'bob@x.org';
    headers['X-Kept'] = 'two';
    await sending;
    expect(inbox.messages).toMatchObject([{ envelope: { to: ['ann@x.org'] } }]);
    expect(`${inbox.messages[0]?.raw}`).toContain('X-Kept: one');
  });

  it('sends what it was given, though that is used for the next message meanwhile', async () => {
    let refusals = 0;
    const mailFrom = () => (refusals++ < 3 ? { code: 451, text: '4.7.1 later' } : undefined);
    await using inbox = await SmtpInbox.start({ refuse: { mailFrom } });
    const retried = withRetry(createSender(inbox.url), { clock: impatient() });
    await using guard = withDuplicateGuard(retried, { store: new MemoryDuplicateStore() });
    const letter = { ...message };
    const sending: Promise<unknown>[] = [];
    const people = ['one@x.org', 'two@x.org', 'three@x.org'];
    for (const to of people) {
      letter.to = to;
      sending.push(guard.send(letter));
    }
    await Promise.all(sending);
    expect(inbox.messages.map(({ envelope }) => envelope.to[0]).toSorted()).toEqual(people.toSorted());
  });

  it('what is too large to be held is compared by what is in it, wherever it is', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'flowpost-large-'));
    const path = join(folder, 'large.bin');
    await writeFile(path, '');
    await truncate(path, 26 * 1_048_576);
    const content = Buffer.alloc(26 * 1_048_576);
    const hashes: string[] = [];
    const store: DuplicateStore = {
      remember: async () => undefined,
      release: async () => undefined,
      async reserve(_, contentHash) {
        hashes.push(contentHash);
        return { state: 'conflict' };
      },
    };
    const attachments = { fileRoots: [folder] };
    await using guard = withDuplicateGuard(createSender('smtp://127.0.0.1:1'), { store, attachments });
    const contentType = 'application/octet-stream';
    for (const one of [
      { kind: 'file' as const, path },
      { kind: 'bytes' as const, content, filename: 'large.bin', contentType },
      {
        kind: 'bytes' as const,
        content: Buffer.from(content).fill(1, 7, 8),
        filename: 'large.bin',
        contentType,
      },
    ])
      await expect(guard.send({ ...message, attachments: [one] })).rejects.toMatchObject({
        code: 'DUPLICATE_CONFLICT',
      });
    expect(hashes[0]).toBe(hashes[1]);
    expect(hashes[2]).not.toBe(hashes[1]);
    await rm(folder, { recursive: true });
  });

  it('fifty at once are one, in one guard and in several over one store', async () => {
    await using inbox = await SmtpInbox.start();
    const store = new MemoryDuplicateStore();
    await using one = guardOf(inbox.url, { store });
    await using other = guardOf(inbox.url, { store });
    const receipts = await Promise.all(
      Array.from({ length: 50 }, (_, index) => (index % 2 ? one : other).send(message)),
    );
    expect(inbox.messages).toHaveLength(1);
    expect(receipts.filter(({ status }) => status === 'sent')).toHaveLength(1);
    expect(new Set(receipts.map(({ messageId }) => messageId)).size).toBe(1);
  });

  it('a failure frees the key: the twin that waited sends', async () => {
    const { server, bodies, url } = await answering(['451 4.3.0 later', '250 ok']);
    await using _ = server;
    await using guard = guardOf(url);
    const outcomes = await Promise.all([1, 2].map(() => guard.send(message).catch((error) => error)));
    expect(outcomes.map((one) => one.code ?? one.status).toSorted()).toEqual(['MESSAGE_DEFERRED', 'sent']);
    expect(bodies).toHaveLength(2);
  });

  it('doubt keeps it: nothing is sent twice', async () => {
    const { server, bodies, url } = await answering([null, '250 ok']);
    await using _ = server;
    const clock = impatient();
    await using guard = guardOf(url, { clock });
    const outcomes = await Promise.all([1, 2].map(() => guard.send(message).catch((error) => error)));
    expect(outcomes.every((one) => isMailError(one) && one.inDoubt)).toBe(true);
    // At once, with what is known of it.
    await expect(guard.send(message)).rejects.toMatchObject({
      ...{ code: 'DUPLICATE_IN_DOUBT', inDoubt: true, retryable: false },
      details: { earlier: { messageId: outcomes[0].details.messageId } },
    });
    expect(bodies).toHaveLength(1);
    expect(clock.slept).toEqual([]);
  });

  it('doubt keeps it in a store that cannot say so: a twin waits in vain', async () => {
    const { server, bodies, url } = await answering([null, '250 ok']);
    await using _ = server;
    const clock = impatient();
    const memory = new MemoryDuplicateStore();
    const store: DuplicateStore = {
      reserve: (...given) => memory.reserve(...given),
      remember: (...given) => memory.remember(...given),
      release: (...given) => memory.release(...given),
    };
    await using guard = withDuplicateGuard(createSender(url), { store, clock });
    await expect(guard.send(message)).rejects.toMatchObject({ inDoubt: true });
    await expect(guard.send(message)).rejects.toMatchObject({ code: 'DUPLICATE_PENDING', retryable: true });
    expect(bodies).toHaveLength(1);
    expect(clock.slept.length).toBe(240);
  });

  it('a store that fails does not hide why the send did', async () => {
    const { server, url } = await answering(['554 5.6.0 no']);
    await using _ = server;
    const store = new MemoryDuplicateStore();
    store.release = () => Promise.reject(new Error('the database is down'));
    await using guard = guardOf(url, { store });
    await expect(guard.send(message)).rejects.toMatchObject({ code: 'MESSAGE_REFUSED' });
  });

  it('a twin that gives up does not wait for the other, here or elsewhere', async () => {
    let answer = (): void => undefined;
    await using server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command !== '.') return undefined;
        answer = () => socket.write('250 ok\r\n');
        return null;
      }),
    );
    const store = new MemoryDuplicateStore();
    const url = `smtp://127.0.0.1:${server.port}?tls=none`;
    await using here = guardOf(url, { store });
    await using elsewhere = guardOf(url, { store });
    let begun = (): void => undefined;
    const handedOver = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const first = here.send(message, { beforeData: () => begun() });
    await handedOver;
    for (const guard of [here, elsewhere]) {
      await expect(guard.send(message, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'SEND_TIMED_OUT' });
      const signal = AbortSignal.abort();
      await expect(guard.send(message, { signal })).rejects.toMatchObject({ code: 'SEND_CANCELLED' });
    }
    await expect.poll(() => answer.name).toBe('answer');
    answer();
    expect((await first).status).toBe('sent');
  });

  it('the same key with other content is a conflict', async () => {
    await using inbox = await SmtpInbox.start();
    await using guard = guardOf(inbox.url, { key: 'node-7' });
    await guard.send(message);
    await expect(guard.send({ ...message, text: 'Other' })).rejects.toMatchObject({
      code: 'DUPLICATE_CONFLICT',
    });
    expect((await guard.send(message)).status).toBe('duplicate');
  });

  it('the hash of the content does not depend on the order of fields, and sees bytes', () => {
    const { from, ...rest } = message;
    expect(contentHash({ ...rest, from, messageId: '<1@x>' })).toBe(contentHash(message));
    const withBytes = (byte: number) =>
      contentHash({ ...message, attachments: [{ kind: 'bytes', content: new Uint8Array([byte]) }] });
    expect(withBytes(1)).not.toBe(withBytes(2));
    expect(withBytes(1)).toBe(withBytes(1));
    // It says what started the flow, which is not what is sent.
    expect(contentHash({ ...message, autoSubmitted: 'auto-generated' })).toBe(contentHash(message));
    // No text of one field passes for another.
    const together = { ...rest, from, subject: `${rest.subject}text${rest.text}`, text: undefined };
    expect(contentHash(together as OutgoingMessage)).not.toBe(contentHash(message));
  });
});

it('they stack, and closing the outermost closes all', async () => {
  await using inbox = await SmtpInbox.start();
  {
    const retried = withRetry(createSender(inbox.url));
    const once = withDuplicateGuard(retried, { store: new MemoryDuplicateStore() });
    await using sender = withLoopGuard(once, { from: 'ann@x.org' });
    await sender.send(message);
    expect((await sender.send(message)).status).toBe('duplicate');
  }
  await expect.poll(() => inbox.openConnections).toBe(0);
});
