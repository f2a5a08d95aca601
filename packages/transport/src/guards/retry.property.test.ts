import {
  isMailError,
  MailError,
  type MailSender,
  noTimings,
  type RejectedRecipient,
  type SendReceipt,
} from '@flowpost/core';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { withRetry } from './retry.ts';

const people = ['a@x.org', 'b@x.org', 'c@x.org', 'd@x.org'];

/** What a server says of each recipient of a message, and whether the connection is lost after it has the message. */
interface Round {
  readonly replies: readonly number[];
  readonly lost: boolean;
}
const reply = fc.constantFrom(250, 250, 451, 452, 550);
const round: fc.Arbitrary<Round> = fc.record({
  replies: fc.array(reply, { minLength: people.length, maxLength: people.length }),
  lost: fc.boolean(),
});

/** A sender to which that happens, round by round, and in the end nothing; it remembers who has the message and who may have it. */
class Fate implements MailSender {
  readonly has = new Set<string>();
  readonly mayHave = new Set<string>();
  /** Messages to nobody, and to somebody who has it. */
  readonly mistakes: (readonly string[])[] = [];
  sends = 0;
  readonly #rounds: readonly Round[];

  constructor(rounds: readonly Round[]) {
    this.#rounds = rounds;
  }

  async send(_message: unknown, { onlyTo = people }: { readonly onlyTo?: readonly string[] } = {}) {
    const { replies, lost } = this.#rounds[this.sends++] ?? { replies: [], lost: false };
    // Kept for later: whatever is thrown here is taken for a failure of the send.
    if (onlyTo.length === 0 || onlyTo.some((address) => this.has.has(address))) this.mistakes.push(onlyTo);
    const codeOf = (address: string): number => replies[people.indexOf(address)] ?? 250;
    const accepted = onlyTo.filter((address) => codeOf(address) === 250);
    const rejected = onlyTo
      .filter((address) => codeOf(address) !== 250)
      .map(
        (address): RejectedRecipient => ({ address, code: codeOf(address), reply: `${codeOf(address)} no` }),
      );
    if (accepted.length === 0) {
      const isForNow = rejected.some(({ code }) => code < 500);
      const [code, replyCode] = isForNow
        ? (['RECIPIENTS_DEFERRED', 451] as const)
        : (['RECIPIENTS_REFUSED', 550] as const);
      throw new MailError(code, 'refused', { phase: 'envelope', replyCode, details: { rejected } });
    }
    if (lost) {
      for (const address of accepted) this.mayHave.add(address);
      throw new MailError('DELIVERY_IN_DOUBT', 'lost', {
        phase: 'confirm',
        details: { unconfirmed: accepted, rejected },
      });
    }
    for (const address of accepted) {
      this.has.add(address);
      this.mayHave.delete(address);
    }
    const status = rejected.length > 0 ? 'partial' : 'sent';
    const receipt: SendReceipt = {
      ...{ status, accepted, rejected, messageId: '<1@x.org>', response: '250 ok', attempts: 1 },
      ...{ timings: noTimings, sizeBytes: 1 },
    };
    return receipt;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

it('nobody who has it gets it again, nobody is forgotten, and what is said of each is so', async () => {
  const clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined };
  await fc.assert(
    fc.asyncProperty(
      fc.array(round, { maxLength: 8 }),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom('hold' as const, 'resend' as const),
      async (rounds, attempts, onDoubt) => {
        const fate = new Fate(rounds);
        const sender = withRetry(fate, { attempts, onDoubt, clock });
        const outcome = await sender.send({ to: people }).catch((error: unknown) => error);
        expect(fate.mistakes).toEqual([]);
        // Beyond the attempts, a message at once only where somebody new got one, and one more for the first doubt.
        expect(fate.sends).toBeLessThanOrEqual(attempts + people.length + 1);
        if (!isMailError(outcome)) {
          const { accepted, rejected } = outcome as SendReceipt;
          expect(accepted.toSorted()).toEqual([...fate.has].sort());
          expect([...accepted, ...rejected.map(({ address }) => address)].sort()).toEqual(people);
          expect([...fate.mayHave]).toEqual([]);
          return;
        }
        const { unconfirmed, accepted = [] } = outcome.details as Record<string, string[] | undefined>;
        expect(outcome.inDoubt).toBe(fate.mayHave.size > 0);
        expect([...accepted].sort()).toEqual([...fate.has].sort());
        if (outcome.inDoubt) expect(unconfirmed?.toSorted()).toEqual([...fate.mayHave].sort());
      },
    ),
    { numRuns: process.env.FLOWPOST_SOAK ? 50_000 : 2_000 },
  );
});
