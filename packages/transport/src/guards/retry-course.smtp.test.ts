import { setTimeout as delay } from 'node:timers/promises';
import { MailError, type MailSender, noTimings, systemClock } from '@flowpost/core';
import { RawServer, SmtpInbox, speakSmtp } from '@flowpost/testing';
import { describe, expect, it } from 'vitest';
import { createSender } from '../create-sender.ts';
import { withRetry } from './retry.ts';

const message = { from: 'a@x.org', to: 'b@x.org', text: 'Hello' };
const three = { ...message, to: 'b@x.org, c@x.org, d@x.org' };

describe('the Date of the first attempt', () => {
  const clock = { ...systemClock, sleep: () => delay(1_100) };

  it('stays when all of it is tried again', async () => {
    let attempts = 0;
    const dates: (string | undefined)[] = [];
    await using server = await RawServer.start((socket) =>
      speakSmtp(
        socket,
        (command) => (command === '.' && ++attempts < 3 ? '451 4.3.0 later' : undefined),
        (body) => dates.push(/^Date: .*$/m.exec(body.toString())?.[0]),
      ),
    );
    await using sender = withRetry(createSender(`smtp://127.0.0.1:${server.port}?tls=none`), { clock });
    await sender.send(message);
    expect([attempts, new Set(dates).size]).toEqual([3, 1]);
  });

  it('stays for those who were put off', async () => {
    let asked = 0;
    const rcptTo = (one: string) =>
      one === 'c@x.org' && asked++ === 0 ? { code: 451, text: '4.7.1 later' } : undefined;
    await using inbox = await SmtpInbox.start({ refuse: { rcptTo } });
    await using sender = withRetry(createSender(inbox.url), { clock });
    await sender.send({ ...message, to: 'b@x.org, c@x.org' });
    const dates = inbox.messages.map(({ headers }) => headers.get('date')?.[0]);
    expect([dates.length, new Set(dates).size]).toEqual([2, 1]);
  });
});

describe('with LMTP', () => {
  /** A store that answers for so many recipients of each message and is lost then; further ones it answers for all. */
  async function storing(rounds: readonly (readonly string[])[]) {
    const asked: string[][] = [];
    const server = await RawServer.start((socket) =>
      speakSmtp(socket, (command) => {
        if (command.startsWith('LHLO')) return '250 store';
        if (command.startsWith('MAIL')) asked.push([]);
        const [, rcpt] = /^RCPT TO:<(.*)>/.exec(command) ?? [];
        if (rcpt) asked.at(-1)?.push(rcpt);
        if (command !== '.') return undefined;
        const replies = rounds[asked.length - 1];
        if (!replies)
          return (
            asked
              .at(-1)
              ?.map(() => '250 ok')
              .join('\r\n') ?? null
          );
        socket.end(replies.map((one) => `${one}\r\n`).join(''));
        return null;
      }),
    );
    const sender = withRetry(createSender(`lmtp://127.0.0.1:${server.port}?tls=none`), {
      ...{ onDoubt: 'resend', firstDelayMs: 1 },
    });
    return {
      ...{ asked, sender },
      async [Symbol.asyncDispose]() {
        await sender[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  }

  it('those are asked for again who have no answer, and those who were put off', async () => {
    await using lost = await storing([['250 stored']]);
    const all = ['b@x.org', 'c@x.org', 'd@x.org'];
    expect(await lost.sender.send(three)).toMatchObject({ status: 'sent', accepted: all });
    expect(lost.asked[1]).toEqual(['c@x.org', 'd@x.org']);
    await using putOff = await storing([['250 stored', '451 4.2.1 later']]);
    await putOff.sender.send(three);
    expect(putOff.asked[1]).toEqual(['c@x.org', 'd@x.org']);
  });

  it('who got it in a later attempt that is in doubt is in doubt no more', async () => {
    await using lost = await storing([['250 stored'], ['250 stored'], []]);
    await expect(lost.sender.send(three)).rejects.toMatchObject({
      inDoubt: true,
      details: { unconfirmed: ['d@x.org'], accepted: ['b@x.org', 'c@x.org'] },
    });
  });
});

it('what is in doubt for nobody in particular is sent again once at least, and then it is not', async () => {
  for (const attempts of [1, 3]) {
    let sends = 0;
    const sender: MailSender = {
      async send() {
        if (++sends === 1) throw new MailError('DELIVERY_IN_DOUBT', 'lost', { phase: 'confirm' });
        const taken = { messageId: '<1@x.org>', accepted: ['b@x.org'], rejected: [], response: '202' };
        return { ...taken, status: 'sent', attempts: 1, timings: noTimings, sizeBytes: 1 };
      },
      async [Symbol.asyncDispose]() {},
    };
    const retried = withRetry(sender, { onDoubt: 'resend', firstDelayMs: 1, attempts });
    expect(await retried.send(message)).toMatchObject({ status: 'sent', attempts: 2 });
  }
});
