import { ManualClock } from '@flowpost/core';
import { SmtpInbox } from '@flowpost/testing';
import { expect, it } from 'vitest';
import { sendEmailNode } from '../dialects/send-email/send-email.ts';
import { runNode } from '../run-node.ts';
import { parseFlowData } from './flow-data.ts';
import { createFlowScope, type FlowScope } from './flow-scope.ts';

const send = (scope: FlowScope, connection: object, to: string) => {
  const settings = { connection, from: 'robot@x.org', to, subject: 'Hi', text: 'Hello', stopOnError: false };
  const retry = { attempts: 2, firstDelayMs: 1_000, longestDelayMs: 1_000 };
  return runNode(sendEmailNode, { ...settings, retry }, { flow: parseFlowData({}), scope });
};

it('more connections than a scope keeps take nothing from who is sending, nor from a limit a minute, and those that nobody uses make room', async () => {
  const clock = new ManualClock();
  const refused = Promise.withResolvers<void>();
  let isFirst = true;
  await using inbox = await SmtpInbox.start({
    refuse: {
      rcptTo(address) {
        if (address !== 'late@x.org' || !isFirst) return undefined;
        isFirst = false;
        refused.resolve();
        return { code: 451, text: '4.7.1 greylisted' };
      },
    },
  });
  const { host, port } = inbox;
  const connection = (ehloName: string) => ({ host, port, tls: 'none', ehloName });
  await using scope = createFlowScope({ clock });
  const others = async (kind: string): Promise<void> => {
    for (let left = 500; left > 0; left -= 20) {
      const names = Array.from({ length: 20 }, (_, index) => `${kind}${left - index}.example`);
      await Promise.all(names.map((name) => send(scope, connection(name), 'other@x.org')));
    }
  };
  const sessions = () => inbox.openConnections;

  const waiting = send(scope, connection('late.example'), 'late@x.org');
  const limited = { ...connection('limited.example'), limits: { messagesPerMinute: 1 } };
  await send(scope, limited, 'limited@x.org');
  await refused.promise;
  await others('a');
  await expect.poll(sessions).toBe(500);
  const second = send(scope, limited, 'limited@x.org');
  clock.advance(1_000);
  expect(await waiting).toMatchObject({ kind: 'continue', receipt: { status: 'sent', attempts: 2 } });
  // It waits for its turn, and nothing but the clock brings that: others come and go meanwhile, each with a session of its own.
  const comeAndGo = async () => {
    for (let index = 0; index < 5; index++) await send(scope, connection(`c${index}.example`), 'other@x.org');
    return 'waits';
  };
  expect(await Promise.race([second, comeAndGo()])).toBe('waits');
  const limitedMessages = () =>
    inbox.messages.filter(({ envelope }) => envelope.to.includes('limited@x.org'));
  expect(limitedMessages()).toHaveLength(1);
  clock.advance(60_000);
  await second;
  expect(limitedMessages()).toHaveLength(2);

  await others('b');
  await expect.poll(sessions).toBe(500);
});
