import { setTimeout as delay } from 'node:timers/promises';
import { isMailError, type MailError, type SendOptions, type SendReceipt } from '@flowpost/core';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ChaoticServer, randomFrom } from './chaotic-server.test-support.ts';
import { createSender } from './create-sender.ts';
import { withRetry } from './guards/retry.ts';

const runs = process.env.FLOWPOST_SOAK === undefined ? 8 : 200;
const messages = 25;
const everybody = ['a@y.org', 'b@y.org', 'c@y.org', 'd@y.org'];
const timeouts = { connectMs: 1_000, greetingMs: 300, commandMs: 300, dataMs: 300, confirmMs: 300 };

const world = fc.record({
  seed: fc.nat(),
  trouble: fc.constantFrom(0.02, 0.1, 0.3),
  protocol: fc.constantFrom('smtp' as const, 'smtp' as const, 'lmtp' as const),
  pipelining: fc.constantFrom('across-messages' as const, 'within-message' as const, 'off' as const),
  connections: fc.integer({ min: 1, max: 4 }),
  attempts: fc.integer({ min: 1, max: 3 }),
  onDoubt: fc.constantFrom('hold' as const, 'hold' as const, 'resend' as const),
  disposesAfterMs: fc.constantFrom(undefined, undefined, 20, 200),
});

interface Told {
  readonly from: string;
  readonly to: readonly string[];
  readonly receipt?: SendReceipt;
  readonly error?: MailError;
}

/** What is untrue about what was told of a message, as the server knows. */
function untruths({ from, to, receipt, error }: Told, server: ChaoticServer, mayBeTwice: boolean): string[] {
  const has = (one: string): boolean => server.copies(from, one) > 0;
  const found: string[] = [];
  const claim = (isTrue: boolean, what: string): void => {
    if (!isTrue) found.push(`${from}: ${what}`);
  };
  for (const one of to) claim(mayBeTwice || server.copies(from, one) < 2, `${one} has it twice`);
  if (receipt) {
    const rejected = receipt.rejected.map(({ address }) => address);
    for (const one of receipt.accepted) claim(has(one), `${one} has it not`);
    for (const one of rejected) claim(!has(one), `${one} has it after all`);
    const named = [...receipt.accepted, ...rejected].toSorted();
    claim(String(named) === String(to), `${named} are not all: ${to}`);
    claim((receipt.status === 'sent') === (rejected.length === 0), receipt.status);
  }
  if (!error) return found;
  const { accepted = [], unconfirmed = to } = error.details as Readonly<Record<string, string[] | undefined>>;
  const known = error.inDoubt ? [...accepted, ...unconfirmed] : [];
  claim(!(error.inDoubt && error.retryable), 'in doubt, and to be tried again');
  for (const one of to)
    claim(!has(one) || known.includes(one), `${one} has it, and ${error.code} does not say so`);
  for (const one of error.inDoubt ? accepted : []) claim(has(one), `${one} has it not`);
  return found;
}

it('whatever happens to a server, what is told of each message is true', { timeout: 600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(world, async ({ seed, trouble, protocol, pipelining, connections, ...rest }) => {
      const random = randomFrom(seed);
      const { attempts, onDoubt, disposesAfterMs } = rest;
      await using server = await ChaoticServer.start({ protocol, random, trouble });
      const sender = withRetry(
        createSender(
          {
            ...{ host: '127.0.0.1', port: server.port, tls: 'none', protocol, pipelining, timeouts },
            limits: { connections },
          },
          { closeDeadlineMs: 500 },
        ),
        { ...{ attempts, onDoubt }, firstDelayMs: 5, longestDelayMs: 50 },
      );
      const send = async (number: number): Promise<Told> => {
        const from = `m${number}@x.org`;
        const to = everybody.filter((_, index) => index === number % 4 || random() < 0.4);
        const options: SendOptions = {
          ...(random() < 0.2 && { onPartial: 'fail' }),
          ...(random() < 0.1 && { closeSession: true }),
          ...(random() < 0.1 && { timeoutMs: Math.ceil(random() * 300) }),
          ...(random() < 0.1 && { signal: AbortSignal.timeout(Math.ceil(random() * 300)) }),
          ...(random() < 0.2 && { beforeData: () => delay(random() * 20) }),
        };
        // Some are longer than what is written at once.
        const text = '.\r\n'.repeat(random() < 0.1 ? 50_000 : 3);
        try {
          return { from, to, receipt: await sender.send({ from, to, subject: from, text }, options) };
        } catch (error) {
          if (!isMailError(error)) throw error;
          return { from, to, error };
        }
      };
      const all = Array.from({ length: messages }, (_, number) => send(number));
      if (disposesAfterMs !== undefined) await delay(disposesAfterMs);
      else await Promise.all(all);
      await sender[Symbol.asyncDispose]();
      const told = await Promise.all(all);
      await expect.poll(() => server.openConnections).toBe(0);
      expect(told.flatMap((one) => untruths(one, server, onDoubt === 'resend'))).toEqual([]);
    }),
    { numRuns: runs },
  );
});
